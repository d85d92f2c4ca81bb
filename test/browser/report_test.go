package browser

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/muster-dev/muster/internal/report"
)

// opened opens every step and role, as a reader would.
const opened = `document.querySelectorAll('details').forEach(d => d.open = true)`

func TestAReportFetchesNothingAndNothingIsWrongWithIt(t *testing.T) {
	s := open(t, start(t), migrated(t).HTML())
	requests, complaints := s.overheard(func() {
		s.do(chromedp.Navigate(s.url))
		eval[any](s, opened)
	})
	if len(requests) != 1 || requests[0] != s.url {
		t.Errorf("it asked for %q; want nothing but itself", requests)
	}
	if len(complaints) > 0 {
		t.Errorf("the browser says %q; want nothing", complaints)
	}
}

func TestAReportShowsEveryStepGateAndChart(t *testing.T) {
	b := start(t)
	for name, m := range map[string]report.Migration{"done": migrated(t), "stopped": stopped(t)} {
		t.Run(name, func(t *testing.T) {
			s := open(t, b, m.HTML())
			s.look(1200, "light", "screen")
			s.do(chromedp.Navigate(s.url))
			if got := eval[int](s, `document.querySelectorAll('details[open] .act').length`); (got > 0) != (name == "stopped") {
				t.Errorf("%d actions are open at first; want those of a step that was stopped, and of no other", got)
			}
			s.picture("report-" + name + "-closed")
			eval[any](s, opened)
			s.picture("report-" + name + "-open")
			if got := eval[int](s, `document.querySelectorAll('.steps > li').length`); got != len(m.Steps) {
				t.Errorf("%d steps; want %d", got, len(m.Steps))
			}
			gates := 0
			shown := eval[string](s, `document.querySelector('main').innerText`)
			says := func(text string) {
				if !strings.Contains(shown, text) {
					t.Errorf("%q is not shown", text)
				}
			}
			for _, step := range m.Steps {
				says(step.Title)
				gates += len(step.Needs)
				for _, a := range step.Actions {
					says(a.What)
					says(a.Evidence)
					gates += len(a.Gates)
					for _, g := range a.Gates {
						says(g.Name)
						says(g.Reason)
					}
				}
			}
			if got := eval[int](s, `document.querySelectorAll('.steps tbody tr').length`); got != gates {
				t.Errorf("%d gates; want %d", got, gates)
			}
			// A chart is one with a size, in which something is drawn.
			const charts = `[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width > 100 && [...s.querySelectorAll('rect')].some(r => r.getBoundingClientRect().height > 2)).length`
			if got := eval[int](s, charts); got != len(m.Availability) {
				t.Errorf("%d charts; want %d, one a path and place", got, len(m.Availability))
			}
			says("ec2:DescribeInstances on *") // what workers might do, and may not when it is done
			says("grace@bastion.example"[:len("grace@bastion.example")*map[bool]int{true: 1}[name == "done"]])
		})
	}
}

// reaches are elements that end to the right of the screen, and what scrolls.
const reaches = `[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible' && !e.closest('.track')).map(e => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 60))`

func TestAReportFitsOnAPhone(t *testing.T) {
	b := start(t)
	for _, width := range []int64{400, 320} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			s := open(t, b, stopped(t).HTML())
			s.look(width, "light", "screen")
			s.do(chromedp.Navigate(s.url))
			eval[any](s, opened)
			s.picture(fmt.Sprintf("report-%d", width))
			if got := eval[int](s, `document.documentElement.scrollWidth`); int64(got) > width {
				t.Errorf("it is %d wide; want %d", got, width)
			}
			if got := eval[[]string](s, reaches); len(got) > 0 {
				t.Errorf("what does not fit: %q", got)
			}
		})
	}
}

// faint are texts whose contrast to what is behind them is below 4.5 to 1, as WCAG 2
// counts it. Colours that let through are laid over what is below them.
const faint = `(() => {
	const parse = c => { const v = c.match(/[\d.]+/g).map(Number); return {rgb: v.slice(0, 3), a: v.length > 3 ? v[3] : 1} };
	const over = (top, below) => top.rgb.map((v, i) => v * top.a + below[i] * (1 - top.a));
	const light = rgb => { const [r, g, b] = rgb.map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 }); return .2126 * r + .7152 * g + .0722 * b };
	const ground = e => {
		const layers = [];
		for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
		return layers.reverse().reduce((below, top) => over(top, below), matchMedia('(prefers-color-scheme:dark)').matches ? [0, 0, 0] : [255, 255, 255]);
	};
	const out = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = walk.nextNode();) {
		const e = n.parentElement;
		if (!n.textContent.trim() || e.closest('title')) continue;
		const below = ground(e), text = over(parse(getComputedStyle(e).color), below);
		const [a, b] = [light(text), light(below)].sort((x, y) => y - x);
		const ratio = (a + .05) / (b + .05);
		if (ratio < 4.5) out.push(ratio.toFixed(2) + ' ' + e.tagName + '.' + e.className + ': ' + n.textContent.trim().slice(0, 40));
	}
	return out;
})()`

func TestAReportIsReadableInLightAndInDark(t *testing.T) {
	b := start(t)
	for _, scheme := range []string{"light", "dark"} {
		for name, m := range map[string]report.Migration{"done": migrated(t), "stopped": stopped(t)} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				s := open(t, b, m.HTML())
				s.look(1200, scheme, "screen")
				s.do(chromedp.Navigate(s.url))
				eval[any](s, opened)
				s.picture("report-" + name + "-" + scheme)
				if got := eval[bool](s, `matchMedia('(prefers-color-scheme:dark)').matches`); got != (scheme == "dark") {
					t.Fatalf("the browser is dark: %v", got)
				}
				if got := eval[string](s, `getComputedStyle(document.body).backgroundColor`); (got == "rgb(19, 21, 25)") != (scheme == "dark") {
					t.Errorf("the page is %s in %s", got, scheme)
				}
				if got := eval[[]string](s, faint); len(got) > 0 {
					t.Errorf("hard to read:\n%s", strings.Join(got, "\n"))
				}
			})
		}
	}
}

func TestAReportNeedsNoScriptAndNoMouse(t *testing.T) {
	s := open(t, start(t), migrated(t).HTML())
	s.do(func(ctx context.Context, _ *chromedp.Target) (none chromedp.Void, err error) {
		_, err = chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return none, err
	}, chromedp.Navigate(s.url))
	const isOpen = `document.querySelector('.steps > li > details').open`
	if eval[bool](s, isOpen) {
		t.Fatal("a step that is done is open at first")
	}
	s.do(chromedp.Click(".steps > li > details > summary"))
	if !eval[bool](s, isOpen) {
		t.Error("a click does not open a step")
	}
	s.do(chromedp.KeyEvent("\r"))
	if eval[bool](s, isOpen) {
		t.Error("Enter does not close the step that has the focus")
	}
}

// On paper nobody can open a step: its evidence is there.
func TestAReportIsPrintedWithAllItsEvidence(t *testing.T) {
	m := migrated(t)
	s := open(t, start(t), m.HTML())
	s.look(800, "dark", "print")
	s.do(chromedp.Navigate(s.url))
	s.picture("report-print")
	actions := 0
	for _, step := range m.Steps {
		actions += len(step.Actions)
	}
	const there = `[...document.querySelectorAll('.act table')].filter(e => e.checkVisibility({contentVisibilityAuto: true}) && e.getBoundingClientRect().height > 20).length`
	if got := eval[int](s, there); got != actions {
		t.Errorf("the gates of %d actions are printed; want those of all %d", got, actions)
	}
	if got := eval[string](s, `getComputedStyle(document.body).backgroundColor`); got != "rgb(255, 255, 255)" {
		t.Errorf("paper is %s; want white, however dark the screen is", got)
	}
	if got := eval[[]string](s, faint); len(got) > 0 {
		t.Errorf("hard to read:\n%s", strings.Join(got, "\n"))
	}
}
