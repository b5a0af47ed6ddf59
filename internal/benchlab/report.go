// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// Values are the figures of one run, by name.
type Values map[string]float64

// Figure is one thing that a bench measures.
type Figure struct {
	Name  string  `json:"name"` // stable, as in Values
	About string  `json:"about"`
	Unit  string  `json:"unit"`
	Aim   float64 `json:"aim,omitempty"` // what tandem should reach; 0: none stated
	More  bool    `json:"more_is_better,omitempty"`
}

// Sample is one system in one round.
type Sample struct {
	Round  int     `json:"round"`
	System string  `json:"system"`
	Took   float64 `json:"took_s"`
	Values Values  `json:"values"`
	// Trouble is why figures are missing, or not to be trusted.
	Trouble string `json:"trouble,omitempty"`
}

// Spread is a median with the value that 99 of 100 do not exceed, and the extremes.
type Spread struct {
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// Summary is one figure of one system over all rounds. Ratio is the system's
// value over tandem's of the same round.
type Summary struct {
	Figure string  `json:"figure"`
	System string  `json:"system"`
	Value  Spread  `json:"value"`
	Ratio  *Spread `json:"ratio_to_tandem,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
	Load   string `json:"load_at_start"`
}

// Report is what a bench found.
type Report struct {
	Bench   string    `json:"bench"`
	About   string    `json:"about"`
	Begun   time.Time `json:"begun"`
	Machine Machine   `json:"machine"`
	Flows   int       `json:"flows"`
	Rate    int       `json:"rate"`
	LifeMS  int64     `json:"life_ms"`
	Advert  string    `json:"advertise_interval"`
	Fault   string    `json:"fault,omitempty"`  // of bench failover
	Freeze  string    `json:"freeze,omitempty"` // how long fault freeze lasts
	Figures []Figure  `json:"figures"`
	Runs    []Sample  `json:"runs"`
	Summary []Summary `json:"summary"`
}

func newReport(b *bench, o *Options) *Report {
	r := &Report{Bench: b.name, About: b.about, Begun: time.Now(), Machine: machine(), Figures: b.figures,
		Flows: o.Flows, Rate: o.Rate, LifeMS: o.Life.Milliseconds(), Advert: o.Advert.String(), Fault: b.faultOf(o)}
	if r.Fault == freezeFault {
		r.Freeze = o.Freeze.String()
	}
	return r
}

// faultOf names the fault, where one strikes.
func (b *bench) faultOf(o *Options) string {
	if b.name != failoverName {
		return ""
	}
	return o.Fault
}

// file is what the report is saved as; what is not the default is part of it.
func (r *Report) file() string {
	name := r.Bench
	if r.Fault != "" && r.Fault != defaultFault {
		name += "-" + r.Fault
	}
	if r.Freeze != "" && r.Freeze != defaultFreeze.String() {
		name += r.Freeze // no dash: it could be an interval
	}
	if r.Advert != "" && r.Advert != defaultAdvert.String() {
		name += "-" + r.Advert
	}
	return name
}

func machine() (m Machine) {
	m.CPUs = runtime.NumCPU()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.TrimSpace(string(text))
	}
	return m
}

// bareSystem is the one without daemons.
const bareSystem = "nobody"

// conclude sums up what ran.
func (r *Report) conclude() {
	r.Summary = nil
	for _, f := range r.Figures {
		for _, system := range r.systems() {
			values, ratios := r.collect(f.Name, system)
			if len(values) == 0 {
				continue
			}
			s := Summary{Figure: f.Name, System: system, Value: spreadOf(values)}
			if len(ratios) > 0 && system != "tandem" {
				ratio := spreadOf(ratios)
				s.Ratio = &ratio
			}
			r.Summary = append(r.Summary, s)
		}
	}
}

func (r *Report) systems() (out []string) {
	for i := range r.Runs {
		if s := r.Runs[i].System; !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// value of a figure; a figure called "x beyond" is "x" less nobody's "x" of the
// same round.
func (r *Report) value(run *Sample, name string) (float64, bool) {
	base, beyond := strings.CutSuffix(name, beyondSuffix)
	v, ok := run.Values[base]
	if !beyond || !ok || run.System == bareSystem {
		return v, ok && !beyond
	}
	for i := range r.Runs {
		if o := &r.Runs[i]; o.Round == run.Round && o.System == bareSystem {
			bare, ok := o.Values[base]
			return v - bare, ok
		}
	}
	return 0, false
}

const beyondSuffix = "_beyond"

func (r *Report) collect(name, system string) (values, ratios []float64) {
	for i := range r.Runs {
		run := &r.Runs[i]
		v, ok := r.value(run, name)
		if run.System != system || !ok || run.Trouble != "" {
			continue
		}
		values = append(values, v)
		for j := range r.Runs {
			o := &r.Runs[j]
			if own, ok := r.value(o, name); o.Round == run.Round && o.System == "tandem" && o.Trouble == "" && ok && own > 0 {
				ratios = append(ratios, v/own)
			}
		}
	}
	return values, ratios
}

func spreadOf(v []float64) Spread {
	s := slices.Sorted(slices.Values(v))
	return Spread{Median: (s[(len(s)-1)/2] + s[len(s)/2]) / 2, P99: s[(len(s)*99+99)/100-1], Min: s[0], Max: s[len(s)-1], N: len(s)}
}

// brief is one run in a line.
func (r *Report) brief(run *Sample) string {
	var parts []string
	for _, f := range r.Figures {
		if v, ok := r.value(run, f.Name); ok {
			parts = append(parts, fmt.Sprintf("%s %s %s", f.Name, number(v), f.Unit))
		}
	}
	if run.Trouble != "" {
		parts = append(parts, "TROUBLE: "+run.Trouble)
	}
	return strings.Join(parts, ", ")
}

// trouble joins that of the systems named.
func (r *Report) trouble(systems ...string) (err error) {
	for i := range r.Runs {
		if run := &r.Runs[i]; run.Trouble != "" && slices.Contains(systems, run.System) {
			err = errors.Join(err, fmt.Errorf("round %d, %s: %s", run.Round, run.System, run.Trouble))
		}
	}
	return err
}

// number has three digits that count.
func number(v float64) string {
	switch a := max(v, -v); {
	case a >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// title is what was measured.
func (r *Report) title() string {
	f, err := faultOf(r.Fault)
	switch {
	case err != nil:
		return r.About
	case r.Freeze != "":
		return r.About + ": " + f.about + " (" + r.Freeze + ")"
	default:
		return r.About + ": " + f.about
	}
}

// Text prints the summary for people.
func (r *Report) Text(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n%s, %d CPUs, Linux %s, load at start %s\n%d flows, %d/s, life %d ms, adverts each %s, %d runs\n\n", r.title(),
		r.Machine.CPU, r.Machine.CPUs, r.Machine.Kernel, r.Machine.Load, r.Flows, r.Rate, r.LifeMS, r.Advert, len(r.Runs))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tsystem\tmedian\tp99\tfrom\tto\tunit\ttimes tandem's\taim")
	for _, s := range r.Summary {
		i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Name == s.Figure })
		f := &r.Figures[i]
		ratio, aim := "", ""
		if s.Ratio != nil {
			ratio = fmt.Sprintf("%s (%s to %s)", number(s.Ratio.Median), number(s.Ratio.Min), number(s.Ratio.Max))
		}
		if f.Aim != 0 && s.System == "tandem" {
			aim = number(f.Aim) + " " + f.judge(s.Value.Median)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, s.System, number(s.Value.Median), number(s.Value.P99), number(s.Value.Min), number(s.Value.Max), f.Unit, ratio, aim)
	}
	_ = t.Flush() // to a writer that does not fail, or whose failure the caller sees
	fmt.Fprintln(w)
	for _, f := range r.Figures {
		fmt.Fprintf(w, "%s: %s\n", f.Name, f.About)
	}
	for i := range r.Runs {
		if run := &r.Runs[i]; run.Trouble != "" {
			fmt.Fprintf(w, "round %d, %s: %s\n", run.Round, run.System, run.Trouble)
		}
	}
}

func (f *Figure) judge(v float64) string {
	if v <= f.Aim && !f.More || v >= f.Aim && f.More {
		return "reached"
	}
	return "missed"
}
