package secretfile

import "io/fs"

func checkMode(string, fs.FileMode) error { return nil }
