package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// SARIF returns the report as indented SARIF 2.1.0. version is that of the tool.
// Accepted findings are results with a suppression; what could not be observed is in
// the notifications.
func SARIF(r Report, version string) ([]byte, error) {
	run := sarifRun{
		Tool:    sarifTool{Driver: sarifDriver{Name: "muster", Version: version, InformationURI: "https://github.com/muster-dev/muster", Rules: []sarifRule{}}},
		Results: []sarifResult{},
		Invocations: []sarifInvocation{{
			Successful: true, Notifications: []sarifNotification{},
		}},
	}
	for _, rule := range rules {
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == rule.ID }) {
			continue
		}
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			ID: rule.ID, Short: sarifText{rule.Title}, Full: sarifText{rule.Why}, Help: sarifText{rule.Next}, HelpURI: rule.Link,
			Default: sarifDefault{Level: level(rule.Severity)},
		})
	}
	for _, f := range r.Findings {
		run.Results = append(run.Results, result(r, run.Tool.Driver.Rules, f))
	}
	for _, u := range r.Unknown {
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotification{Level: "warning", Message: sarifText{"not looked at: " + u}})
	}
	data, err := json.MarshalIndent(sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write SARIF: %w", err)
	}
	return append(data, '\n'), nil
}

func result(r Report, rules []sarifRule, f Finding) sarifResult {
	out := sarifResult{
		RuleID: f.ID, RuleIndex: slices.IndexFunc(rules, func(rule sarifRule) bool { return rule.ID == f.ID }),
		Level: level(f.Severity), Message: sarifText{f.Observed + ". " + f.Why + ". Next: " + f.Next + "."},
		Locations:    []sarifLocation{{Logical: []sarifLogical{{Name: f.Subject, FullName: r.Cluster + "/" + f.Subject, Kind: "resource"}}}},
		Fingerprints: map[string]string{"finding/v1": r.Cluster + "/" + f.ID + "/" + f.Subject},
		Properties:   map[string]string{"severity": string(f.Severity), "blocks": string(f.Blocks), "goneAfter": string(f.GoneAfter)},
	}
	if a := f.Accepted; a != nil {
		out.Suppressions = []sarifSuppression{{Kind: "external", Status: "accepted", Justification: a.Reason + " (until " + a.Last() + ")"}}
	}
	return out
}

// Last returns the last day on which the acceptance is valid, as YYYY-MM-DD.
func (a Acceptance) Last() string { return a.Until.AddDate(0, 0, -1).Format(time.DateOnly) }

func level(s Severity) string {
	switch s {
	case Critical, High:
		return "error"
	case Medium:
		return "warning"
	default:
		return "note"
	}
}

type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID      string       `json:"id"`
		Short   sarifText    `json:"shortDescription"`
		Full    sarifText    `json:"fullDescription"`
		Help    sarifText    `json:"help"`
		HelpURI string       `json:"helpUri"`
		Default sarifDefault `json:"defaultConfiguration"`
	}
	sarifDefault struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
		Properties   map[string]string  `json:"properties"`
	}
	sarifLocation struct {
		Logical []sarifLogical `json:"logicalLocations"`
	}
	sarifLogical struct {
		Name     string `json:"name"`
		FullName string `json:"fullyQualifiedName"`
		Kind     string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications"`
	}
	sarifNotification struct {
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
)
