package bootconfig

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"path"
	"strings"
	"unicode/utf8"
)

// unpacker collects the contents of one user-data.
type unpacker struct {
	left        int             // bytes that may still be unpacked
	hereDocs    int             // here-documents so far
	boot        []byte          // the boot YAML; nil until found
	wrappings   []string        // formats seen, for errors
	credentials map[string]bool // names of variables with secrets
	releases    map[string]bool // kOps releases in nodeup's URLs
}

// setBoot records the boot YAML.
func (f *unpacker) setBoot(boot []byte) error {
	if f.boot != nil && !bytes.Equal(bytes.TrimSpace(f.boot), bytes.TrimSpace(boot)) {
		return fmt.Errorf("user-data holds two different %s: which one the instance would use cannot be told", fileName)
	}
	f.boot = boot
	return nil
}

// walk unpacks data of any supported format.
func (f *unpacker) walk(data []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("user-data is wrapped more than %d times", maxDepth)
	}
	text := bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	switch {
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		f.noteWrapping("gzip")
		plain, err := f.gunzip(data)
		if err != nil {
			return err
		}
		return f.walk(plain, depth+1)
	case isMultipart(text):
		f.noteWrapping("MIME")
		return f.multipart(text, depth)
	case bytes.HasPrefix(text, []byte("#cloud-config")):
		f.noteWrapping("cloud-init")
		return f.cloudInit(text, depth)
	case bytes.HasPrefix(text, []byte("#include")):
		return errors.New("user-data is a list of URLs (#include): what they hold cannot be told")
	case bytes.HasPrefix(text, []byte("#!")), bytes.Contains(text, []byte("<<")):
		f.noteWrapping("shell script")
		return f.shell(text, depth)
	case isBootYAML(text):
		f.noteWrapping("boot YAML")
		return f.setBoot(text)
	}
	if plain, err := f.unbase64(text); err == nil && len(plain) > 0 {
		f.noteWrapping("base64")
		return f.walk(plain, depth+1)
	}
	if !utf8.Valid(text) {
		f.noteWrapping("binary data")
	}
	f.scan(text)
	return nil
}

func (f *unpacker) noteWrapping(what string) { f.wrappings = append(f.wrappings, what) }

// isBootYAML recognises a bare boot YAML by two fields that it always has.
func isBootYAML(text []byte) bool {
	has := func(key string) bool {
		return bytes.HasPrefix(text, []byte(key)) || bytes.Contains(text, []byte("\n"+key))
	}
	return has("ClusterName:") && has("InstanceGroupName:")
}

// charge counts n unpacked bytes.
func (f *unpacker) charge(n int) error {
	if f.left -= n; f.left < 0 {
		return fmt.Errorf("user-data unpacks to more than %d bytes", MaxUnpacked)
	}
	return nil
}

// readAll reads r to its end, within the limit of unpacked bytes.
func (f *unpacker) readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(f.left)+1))
	if err != nil {
		return nil, err
	}
	return data, f.charge(len(data))
}

func (f *unpacker) gunzip(data []byte) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("unpack gzip in user-data: %w", err)
	}
	plain, err := f.readAll(zr)
	if err != nil {
		return nil, fmt.Errorf("unpack gzip in user-data: %w", err)
	}
	return plain, nil
}

// unbase64 decodes base64 with or without line breaks and padding.
func (f *unpacker) unbase64(text []byte) ([]byte, error) {
	packed := make([]byte, 0, len(text))
	for _, c := range text {
		switch c {
		case ' ', '\t', '\r', '\n', '=':
			// line breaks and padding
		default:
			packed = append(packed, c)
		}
	}
	plain := make([]byte, base64.RawStdEncoding.DecodedLen(len(packed)))
	n, err := base64.RawStdEncoding.Decode(plain, packed)
	if err != nil {
		return nil, errors.New("user-data holds text that should be base64 and is not")
	}
	return plain[:n], f.charge(n)
}

// isMultipart reports whether text begins with the header of a MIME multipart
// message.
func isMultipart(text []byte) bool {
	head := bytes.ToLower(text[:min(len(text), 512)])
	return (bytes.HasPrefix(head, []byte("content-type:")) || bytes.HasPrefix(head, []byte("mime-version:"))) &&
		bytes.Contains(head, []byte("multipart/"))
}

func (f *unpacker) multipart(text []byte, depth int) error {
	msg, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("read MIME header of user-data: %w", err)
	}
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return errors.New("user-data is MIME without a boundary")
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("user-data is MIME that breaks off: %w", err)
		}
		body, err := f.readAll(part)
		if err != nil {
			return fmt.Errorf("user-data is MIME that breaks off: %w", err)
		}
		if body, err = f.transfer(part.Header.Get("Content-Transfer-Encoding"), body); err != nil {
			return err
		}
		// The header of a part may replace the first line that walk recognises.
		switch kind := part.Header.Get("Content-Type"); {
		case strings.HasPrefix(kind, "multipart/"):
			body = append([]byte("Content-Type: "+kind+"\n\n"), body...)
		case strings.HasPrefix(kind, "text/cloud-config"):
			body = append([]byte("#cloud-config\n"), body...)
		}
		if err := f.walk(body, depth+1); err != nil {
			return err
		}
	}
}

// transfer decodes a MIME transfer encoding.
func (f *unpacker) transfer(encoding string, body []byte) ([]byte, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "7bit", "8bit", "binary":
		return body, nil
	case "base64":
		return f.unbase64(body)
	case "quoted-printable":
		return f.readAll(quotedprintable.NewReader(bytes.NewReader(body)))
	default:
		return nil, fmt.Errorf("user-data has a MIME part in the unknown encoding %q", clip(encoding))
	}
}

// cloudConfig is the fields of a cloud-config that may contain the boot YAML.
type cloudConfig struct {
	WriteFiles []struct {
		Path     string `yaml:"path"`
		Content  string `yaml:"content"`
		Encoding string `yaml:"encoding"`
	} `yaml:"write_files"`
	RunCmd  any `yaml:"runcmd"`
	BootCmd any `yaml:"bootcmd"`
}

func (f *unpacker) cloudInit(text []byte, depth int) error {
	config, err := unmarshal[cloudConfig](text)
	if err != nil {
		return fmt.Errorf("user-data is #cloud-config but not YAML: %w", err)
	}
	for _, file := range config.WriteFiles {
		body, err := f.content(file.Encoding, []byte(file.Content))
		if err != nil {
			return fmt.Errorf("write_files of %q: %w", clip(file.Path), err)
		}
		if path.Base(file.Path) == fileName {
			if err := f.setBoot(body); err != nil {
				return err
			}
			continue
		}
		if err := f.walk(body, depth+1); err != nil {
			return err
		}
	}
	for _, commands := range []any{config.BootCmd, config.RunCmd} {
		if err := f.commands(commands, depth); err != nil {
			return err
		}
	}
	return nil
}

// commands unpacks cloud-init's commands: shell scripts, or lists of arguments that may include one.
func (f *unpacker) commands(v any, depth int) error {
	switch v := v.(type) {
	case string:
		return f.shell([]byte(v), depth+1)
	case []any:
		if depth > maxDepth {
			return fmt.Errorf("user-data is wrapped more than %d times", maxDepth)
		}
		for _, item := range v {
			if err := f.commands(item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// content decodes cloud-init's encoding of a file.
func (f *unpacker) content(encoding string, body []byte) ([]byte, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "text/plain":
		return body, nil
	case "b64", "base64":
		return f.unbase64(body)
	case "gz", "gzip":
		return f.gunzip(body)
	case "gz+b64", "gz+base64", "gzip+b64", "gzip+base64":
		packed, err := f.unbase64(body)
		if err != nil {
			return nil, err
		}
		return f.gunzip(packed)
	default:
		return nil, fmt.Errorf("unknown encoding %q", clip(encoding))
	}
}
