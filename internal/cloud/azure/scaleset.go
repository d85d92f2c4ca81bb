package azure

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// scaleSet is a scale set of the cluster.
type scaleSet struct {
	name      string
	group     string
	role      cluster.Role
	capacity  int
	zones     []string
	principal string   // of its identity; empty if it has none
	asgs      []string // IDs of the application security groups of its machines, lower case
	addrs     []string // of its machines, set by group
}

// deref returns what p points to, or the zero value for nil.
func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// allPages reads all pages of a list.
func allPages[P, T any](ctx context.Context, attempt string, pager *runtime.Pager[P], items func(P) []*T) (all []*T, err error) {
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, rest.Classify(attempt, err)
		}
		for _, item := range items(page) {
			if item != nil {
				all = append(all, item)
			}
		}
	}
	return all, nil
}

// scaleSets lists the cluster's scale sets. A tag without a value does not match.
func (p *Provider) scaleSets(ctx context.Context) ([]scaleSet, error) {
	all, err := allPages(ctx, "list scale sets of "+p.config.Cluster, p.sets.NewListPager(p.config.ResourceGroup, nil),
		func(page armcompute.VirtualMachineScaleSetsClientListResponse) []*armcompute.VirtualMachineScaleSet {
			return page.Value
		})
	var out []scaleSet
	for _, v := range all {
		if deref(v.Tags[tagCluster]) == p.config.Cluster {
			out = append(out, describe(v, p.config.Cluster))
		}
	}
	return out, err
}

func describe(v *armcompute.VirtualMachineScaleSet, name string) scaleSet {
	s := scaleSet{name: deref(v.Name), group: deref(v.Tags[tagGroup])}
	if s.group == "" {
		s.group = strings.TrimSuffix(s.name, "."+name)
	}
	for tag, role := range map[string]cluster.Role{
		tagControlPlane: cluster.RoleControlPlane, tagMaster: cluster.RoleControlPlane, tagNode: cluster.RoleNode,
	} {
		if _, ok := v.Tags[tag]; ok {
			s.role = role
		}
	}
	if v.SKU != nil {
		s.capacity = int(deref(v.SKU.Capacity))
	}
	for _, z := range v.Zones {
		s.zones = append(s.zones, zone(deref(v.Location), deref(z)))
	}
	if v.Identity != nil {
		s.principal = deref(v.Identity.PrincipalID)
	}
	if v.Properties == nil || v.Properties.VirtualMachineProfile == nil || v.Properties.VirtualMachineProfile.NetworkProfile == nil {
		return s
	}
	for _, nic := range v.Properties.VirtualMachineProfile.NetworkProfile.NetworkInterfaceConfigurations {
		if nic == nil || nic.Properties == nil {
			continue
		}
		for _, ip := range nic.Properties.IPConfigurations {
			if ip == nil || ip.Properties == nil {
				continue
			}
			for _, asg := range ip.Properties.ApplicationSecurityGroups {
				s.asgs = append(s.asgs, strings.ToLower(deref(asg.ID)))
			}
		}
	}
	return s
}

// zone returns a zone as kOps writes it: location and number.
func zone(location, number string) string { return location + "-" + number }

// machines lists a scale set's machines with their addresses.
func (p *Provider) machines(ctx context.Context, set scaleSet) ([]survey.Machine, error) {
	expand := "instanceView"
	vms, err := allPages(ctx, "list machines of "+set.name,
		p.vms.NewListPager(p.config.ResourceGroup, set.name, &armcompute.VirtualMachineScaleSetVMsClientListOptions{Expand: &expand}),
		func(page armcompute.VirtualMachineScaleSetVMsClientListResponse) []*armcompute.VirtualMachineScaleSetVM {
			return page.Value
		})
	if err != nil {
		return nil, err
	}
	nics, err := allPages(ctx, "list network interfaces of "+set.name,
		p.nics.NewListVirtualMachineScaleSetNetworkInterfacesPager(p.config.ResourceGroup, set.name, nil),
		func(page armnetwork.InterfacesClientListVirtualMachineScaleSetNetworkInterfacesResponse) []*armnetwork.Interface {
			return page.Value
		})
	if err != nil {
		return nil, err
	}
	addrs := map[string]string{} // by the ID of the machine
	for _, nic := range nics {
		if nic.Properties == nil || nic.Properties.VirtualMachine == nil {
			continue
		}
		for _, ip := range nic.Properties.IPConfigurations {
			if ip != nil && ip.Properties != nil && deref(ip.Properties.PrivateIPAddress) != "" {
				addrs[strings.ToLower(deref(nic.Properties.VirtualMachine.ID))] = *ip.Properties.PrivateIPAddress
			}
		}
	}
	machines := make([]survey.Machine, 0, len(vms))
	for _, vm := range vms {
		machines = append(machines, machine(vm, set, addrs[strings.ToLower(deref(vm.ID))]))
	}
	return machines, nil
}

func machine(vm *armcompute.VirtualMachineScaleSetVM, set scaleSet, addr string) survey.Machine {
	m := survey.Machine{
		Instance: cloud.Instance{
			ID:         set.name + "_" + deref(vm.InstanceID),
			Name:       deref(vm.Name),
			Addr:       survey.Addr(addr),
			Zone:       deref(vm.Location),
			Generation: cloud.GenerationUnknown,
		},
		Group: set.group,
		Role:  set.role,
	}
	if len(vm.Zones) > 0 {
		m.Zone = zone(deref(vm.Location), deref(vm.Zones[0]))
	}
	props := vm.Properties
	if props == nil {
		m.State = "unknown"
		return m
	}
	if props.OSProfile != nil && props.OSProfile.ComputerName != nil {
		m.Name = strings.ToLower(*props.OSProfile.ComputerName)
	}
	m.Launched = deref(props.TimeCreated)
	if latest := props.LatestModelApplied; latest != nil {
		m.Generation = cloud.GenerationOld
		if *latest {
			m.Generation = cloud.GenerationNew
		}
	}
	m.State = state(props)
	m.Alive = slices.Contains([]string{"running", "starting", "creating", "updating"}, m.State)
	return m
}

// state returns the power state, or else the provisioning state.
func state(props *armcompute.VirtualMachineScaleSetVMProperties) string {
	if props.InstanceView != nil {
		for _, st := range props.InstanceView.Statuses {
			if power, ok := strings.CutPrefix(deref(st.Code), "PowerState/"); ok {
				return power
			}
		}
	}
	return strings.ToLower(deref(props.ProvisioningState))
}

// groups reads each scale set; failures are gaps of the group.
func (p *Provider) groups(ctx context.Context, s *survey.Survey, sets []scaleSet) []cloud.Group {
	groups := make([]cloud.Group, len(sets))
	// errors are gaps, so none is returned
	_ = survey.Each(ctx, sets, func(ctx context.Context, i int, set scaleSet) error {
		groups[i] = p.group(ctx, s, &sets[i])
		return nil
	})
	return groups
}

func (p *Provider) group(ctx context.Context, s *survey.Survey, set *scaleSet) cloud.Group {
	g := cloud.Group{
		Name: set.group, ID: set.name, Role: set.role, Min: set.capacity, Max: set.capacity, Desired: set.capacity,
		Zones: set.zones, Instances: []cloud.Instance{},
	}
	expand := armcompute.ExpandTypesForGetVMScaleSetsUserData
	got, err := p.sets.Get(ctx, p.config.ResourceGroup, set.name, &armcompute.VirtualMachineScaleSetsClientGetOptions{Expand: &expand})
	if err = rest.Classify("read the user-data of "+set.name, err); err != nil {
		s.Gap(survey.WhatBoot, set.group, err.Error())
		g.Template.ID = set.name
	} else {
		var data []byte
		if got.Properties != nil && got.Properties.VirtualMachineProfile != nil {
			data = decodeUserData(got.Properties.VirtualMachineProfile.UserData)
		}
		g.Template = s.Template(set.group, set.name, data, unreadable)
		g.Template.Version = deref(got.Etag)
	}
	if set.principal != "" {
		g.Template.Permissions = set.name
	}
	machines, err := p.machines(ctx, *set)
	if err != nil {
		s.Gap(survey.WhatInstances, set.group, err.Error())
		return g
	}
	for _, m := range machines {
		if m.Generation == cloud.GenerationOld {
			m.Boot = p.bootOf(ctx, set.name, m.ID)
		}
		set.addrs = append(set.addrs, m.Addr.String())
		g.Instances = append(g.Instances, m.Instance)
	}
	survey.SortInstances(g.Instances)
	return g
}

// bootOf returns the boot configuration of a machine, or nil.
func (p *Provider) bootOf(ctx context.Context, set, id string) *cloud.BootConfig {
	expand := armcompute.InstanceViewTypesUserData
	got, err := p.vms.Get(ctx, p.config.ResourceGroup, set, strings.TrimPrefix(id, set+"_"),
		&armcompute.VirtualMachineScaleSetVMsClientGetOptions{Expand: &expand})
	if err != nil || got.Properties == nil {
		return nil
	}
	b, err := bootconfig.Parse(decodeUserData(got.Properties.UserData))
	if err != nil {
		return nil
	}
	return b
}

// decodeUserData decodes user-data, which the API returns in base64.
func decodeUserData(text *string) []byte {
	if deref(text) == "" {
		return nil
	}
	data, err := base64.StdEncoding.DecodeString(*text)
	if err != nil {
		return []byte(*text)
	}
	return data
}
