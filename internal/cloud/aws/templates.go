package aws

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
)

// maxSingleReads is the number of launch templates up to which each is read by itself with all its versions. With more,
// the latest and default versions of all the account's templates are listed, and only templates with instances of an older
// version are read again.
const maxSingleReads = 8

// templateRef names a launch template by id, by name, or both.
type templateRef struct{ id, name string }

func (r templateRef) empty() bool { return r.id == "" && r.name == "" }

func (r templateRef) String() string {
	if r.name != "" {
		return r.name
	}
	return r.id
}

// key returns the ID, or else the name.
func (r templateRef) key() string {
	if r.id != "" {
		return r.id
	}
	return r.name
}

// template is a launch template with the versions that were read.
type template struct {
	id, name      string
	versions      map[int64]*version
	latest        int64 // 0 if not known
	defaultNumber int64 // the default version; 0 if not known
	complete      bool  // all versions were read
}

// older returns the number of versions before one, or the maximum possible if not all were read.
func (t *template) older(number int64) int {
	if !t.complete {
		return int(number - 1)
	}
	n := 0
	for v := range t.versions {
		if v < number {
			n++
		}
	}
	return n
}

// version is one version of a launch template.
type version struct {
	template *template
	number   int64
	hash     string // of the user-data; empty if there is none
	content  string // of all that an instance is launched from; empty if not returned
	boot     *cloud.BootConfig
	fault    error // why boot is nil
	profile  string
	sgs      []string
}

func (v *version) numberText() string { return strconv.FormatInt(v.number, 10) }

// templateSet holds templates by id and by name.
type templateSet struct {
	mu     sync.Mutex // guards the fields below
	byKey  map[string]*template
	faults map[string]error // why a template is not there, by key
}

// find returns the version that a group or an instance refers to.
func (s *templateSet) find(ref templateRef, want string) (*version, error) {
	if ref.empty() {
		return nil, errors.New("no launch template is named")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, fault := s.byKey[ref.key()], s.faults[ref.key()]
	switch {
	case t == nil && fault != nil:
		return nil, fault
	case t == nil:
		return nil, fmt.Errorf("launch template %s: %w", ref, cloud.ErrNotFound)
	}
	number := int64(0)
	switch want {
	case "$Latest":
		number = t.latest
	case "$Default", "":
		number = t.defaultNumber
	default:
		number, _ = strconv.ParseInt(want, 10, 64) // 0 is no version
	}
	v, ok := t.versions[number]
	switch {
	case !ok && fault != nil:
		return nil, fault
	case !ok && t.complete:
		return nil, fmt.Errorf("launch template %s, version %s: %w", t.name, want, cloud.ErrNotFound)
	case !ok:
		return nil, fmt.Errorf("launch template %s: version %s was not read", t.name, want)
	}
	return v, nil
}

// add adds a version. hasLatest is true if the list that it is from includes the
// template's latest version.
func (s *templateSet) add(in types.LaunchTemplateVersion, hasLatest bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, name := aws.ToString(in.LaunchTemplateId), aws.ToString(in.LaunchTemplateName)
	t, ok := s.byKey[id]
	if !ok {
		t = &template{id: id, name: name, versions: map[int64]*version{}}
		s.byKey[id], s.byKey[name] = t, t
	}
	v := &version{template: t, number: aws.ToInt64(in.VersionNumber)}
	if _, ok := t.versions[v.number]; ok {
		return
	}
	t.versions[v.number] = v
	if hasLatest {
		t.latest = max(t.latest, v.number)
	}
	if aws.ToBool(in.DefaultVersion) {
		t.defaultNumber = v.number
	}
	d := in.LaunchTemplateData
	if d == nil {
		v.fault = errors.New("user-data was not returned")
		return
	}
	v.hash, v.boot, v.fault = readUserData(aws.ToString(d.UserData))
	v.content = contentOf(d)
	if p := d.IamInstanceProfile; p != nil {
		if v.profile = aws.ToString(p.Name); v.profile == "" {
			v.profile = profileName(aws.ToString(p.Arn))
		}
	}
	v.sgs = d.SecurityGroupIds
	if len(d.NetworkInterfaces) > 0 {
		v.sgs = d.NetworkInterfaces[0].Groups
	}
}

// contentOf returns the hexadecimal SHA-256 of a version's content. The order of tags, disks and security groups makes no
// difference, nor do tags of the template itself.
func contentOf(d *types.ResponseLaunchTemplateData) string {
	c := *d
	c.SecurityGroupIds = sortedBy(d.SecurityGroupIds, strings.Clone)
	c.BlockDeviceMappings = sortedBy(d.BlockDeviceMappings, func(m types.LaunchTemplateBlockDeviceMapping) string { return aws.ToString(m.DeviceName) })
	tags := slices.DeleteFunc(slices.Clone(d.TagSpecifications), func(t types.LaunchTemplateTagSpecification) bool {
		return t.ResourceType == types.ResourceTypeLaunchTemplate
	})
	c.TagSpecifications = sortedBy(tags, func(t types.LaunchTemplateTagSpecification) string { return string(t.ResourceType) })
	for i, t := range c.TagSpecifications {
		c.TagSpecifications[i].Tags = sortedBy(t.Tags, func(t types.Tag) string { return aws.ToString(t.Key) })
	}
	c.NetworkInterfaces = slices.Clone(d.NetworkInterfaces)
	for i, n := range c.NetworkInterfaces {
		c.NetworkInterfaces[i].Groups = sortedBy(n.Groups, strings.Clone)
	}
	data, err := json.Marshal(c)
	if err != nil {
		return "" // unknown
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// sortedBy returns a sorted copy, nil if it is empty: AWS returns either.
func sortedBy[T any](all []T, key func(T) string) []T {
	return slices.SortedStableFunc(slices.Values(all), func(a, b T) int { return strings.Compare(key(a), key(b)) })
}

// readUserData decodes what EC2 returns as base64.
func readUserData(encoded string) (hash string, boot *cloud.BootConfig, fault error) {
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", nil, errors.New("user-data is not base64")
	}
	boot, fault = bootconfig.Parse(data)
	if len(data) > 0 {
		hash = bootconfig.Hash(data)
	}
	return hash, boot, fault
}

// templates reads the groups' launch templates: the versions of the next instances and of existing ones.
func (l *lookup) templates(ctx context.Context, groups []*group) *templateSet {
	set := &templateSet{byKey: map[string]*template{}, faults: map[string]error{}}
	wanted := wantedTemplates(groups)
	if len(wanted) <= maxSingleReads {
		forEach(wanted, func(w want) { l.allVersions(ctx, set, w.ref) })
		return set
	}
	if err := l.latestAndDefault(ctx, set, wanted); err != nil {
		for _, w := range wanted {
			set.faults[w.ref.key()] = err
		}
		return set
	}
	var missing []want
	for _, w := range wanted {
		if w.versions = set.missing(w); len(w.versions) > 0 {
			missing = append(missing, w)
		}
	}
	forEach(missing, func(w want) { l.versions(ctx, set, w) })
	return set
}

// want is a template and the versions of it to read.
type want struct {
	ref      templateRef
	versions []string
}

// wantedTemplates returns the templates of the groups and their instances, each once.
func wantedTemplates(groups []*group) []want {
	var (
		order []*want
		seen  = map[string]*want{}
		asked = map[[2]string]bool{}
	)
	add := func(ref templateRef, version string) {
		if ref.empty() {
			return
		}
		w, ok := seen[ref.key()]
		if !ok {
			w = &want{ref: ref}
			seen[ref.key()] = w
			order = append(order, w)
		}
		if k := [2]string{ref.key(), version}; !asked[k] && version != "" {
			asked[k] = true
			w.versions = append(w.versions, version)
		}
	}
	for _, g := range groups {
		add(g.from, g.version)
		for _, m := range g.machines {
			add(m.from, m.Version)
		}
	}
	all := make([]want, len(order))
	for i, w := range order {
		all[i] = *w
	}
	return all
}

// missing returns the versions of w that have not been read.
func (s *templateSet) missing(w want) (missing []string) {
	for _, v := range w.versions {
		if _, err := s.find(w.ref, v); err != nil {
			missing = append(missing, v)
		}
	}
	return missing
}

// allVersions reads all versions of one template.
func (l *lookup) allVersions(ctx context.Context, set *templateSet, ref templateRef) {
	in := &ec2.DescribeLaunchTemplateVersionsInput{MaxResults: aws.Int32(200)}
	in.LaunchTemplateId, in.LaunchTemplateName = ref.input()
	err := l.eachVersion(ctx, in, ref.String(), func(v types.LaunchTemplateVersion) { set.add(v, true) })
	set.mu.Lock()
	defer set.mu.Unlock()
	if err != nil {
		set.faults[ref.key()] = err
		return
	}
	if t := set.byKey[ref.key()]; t != nil {
		t.complete = true
	}
}

// latestAndDefault reads the latest and the default version of all templates, and keeps the wanted ones.
func (l *lookup) latestAndDefault(ctx context.Context, set *templateSet, wanted []want) error {
	keep := map[string]bool{}
	for _, w := range wanted {
		keep[w.ref.id], keep[w.ref.name] = true, true
	}
	delete(keep, "")
	in := &ec2.DescribeLaunchTemplateVersionsInput{MaxResults: aws.Int32(200), Versions: []string{"$Latest", "$Default"}}
	return l.eachVersion(ctx, in, "newest and default versions of all templates", func(v types.LaunchTemplateVersion) {
		if keep[aws.ToString(v.LaunchTemplateId)] || keep[aws.ToString(v.LaunchTemplateName)] {
			set.add(v, true)
		}
	})
}

// versions reads the given versions of one template.
func (l *lookup) versions(ctx context.Context, set *templateSet, w want) {
	in := &ec2.DescribeLaunchTemplateVersionsInput{Versions: w.versions}
	in.LaunchTemplateId, in.LaunchTemplateName = w.ref.input()
	err := l.eachVersion(ctx, in, w.ref.String(), func(v types.LaunchTemplateVersion) { set.add(v, false) })
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		// One deleted version fails the call for the others, too.
		l.allVersions(ctx, set, w.ref)
	case err != nil:
		set.mu.Lock()
		defer set.mu.Unlock()
		set.faults[w.ref.key()] = err
	}
}

// input returns the ID or the name for a call, which accepts only one of them.
func (r templateRef) input() (id, name *string) {
	if r.id != "" {
		return aws.String(r.id), nil
	}
	return nil, aws.String(r.name)
}

func (l *lookup) eachVersion(ctx context.Context, in *ec2.DescribeLaunchTemplateVersionsInput, what string, f func(types.LaunchTemplateVersion)) error {
	for {
		out, err := call(ctx, &l.recorder, describeTemplateVersions, what, l.ec2.DescribeLaunchTemplateVersions, in)
		if err != nil {
			return err
		}
		for _, v := range out.LaunchTemplateVersions {
			f(v)
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return nil
		}
	}
}
