package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"boxrun/launcher/list"
)

// The figures stand on the page between lines that are named after them, and this.
const figuresEnd = "<!-- end of the figures -->\n"

// table returns the figures for a page.
func (f figures) table() string {
	var b strings.Builder
	b.WriteString("| ports | | up returns | first HTTP 200 | of boxrun's | stop | CPU of up | peak of up |\n|---|---|---|---|---|---|---|---|\n")
	for _, ports := range portCounts() {
		ours := f.lives[ports]["boxrun"]
		for _, c := range contenders() {
			theirs := f.lives[ports][c.name]
			if len(theirs) == 0 {
				continue
			}
			ratios := make([]float64, len(theirs))
			for i := range theirs {
				ratios[i] = float64(theirs[i].answer) / float64(ours[i].answer)
			}
			fmt.Fprintf(&b, "| %d | %s | %s | %s | %.2f x | %s | %s | %d MiB |\n", ports, c.name,
				spread(list.Map(theirs, func(l life) time.Duration { return l.up })),
				spread(list.Map(theirs, func(l life) time.Duration { return l.answer })), median(ratios),
				spread(list.Map(theirs, func(l life) time.Duration { return l.stop })),
				ms(median(list.Map(theirs, func(l life) time.Duration { return l.cost.cpu }))),
				median(list.Map(theirs, func(l life) int64 { return l.cost.peak }))/1024)
		}
	}
	b.WriteString("\n| boxrun | took | CPU | peak |\n|---|---|---|---|\n")
	for _, v := range f.verbs {
		fmt.Fprintf(&b, "| %s | %s | %s | %d MiB |\n", v.what,
			spread(list.Map(v.times, func(c cost) time.Duration { return c.took })),
			ms(median(list.Map(v.times, func(c cost) time.Duration { return c.cpu }))),
			median(list.Map(v.times, func(c cost) int64 { return c.peak }))/1024)
	}
	return b.String()
}

// spread returns the median, and in brackets the least and the most.
func spread(times []time.Duration) string {
	least, most := times[0], times[0]
	for _, t := range times {
		least, most = min(least, t), max(most, t)
	}
	return fmt.Sprintf("%s (%d-%d)", ms(median(times)), least.Milliseconds(), most.Milliseconds())
}

func ms(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}

// write writes the figures to their place on the page, and the chart beside the page.
func (f figures) write(page string, rounds int) error {
	if err := place(page, "figures", rounds, f.table()); err != nil {
		return err
	}
	return f.chart(filepath.Join(filepath.Dir(page), "performance.svg"))
}

// place writes a table to the place of a name on the page, with the machine that the figures come from.
func place(page, name string, rounds int, table string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	begin := "<!-- " + name + " of make bench -->\n"
	before, rest, found := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, figuresEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the %s", page, name)
	}
	about := fmt.Sprintf("\nMedians of %d rounds, and in brackets the least and the most, on %s with %d processors\n"+
		"and a load of %s at the end. Under load the ratios count.\n\n", rounds, processor(), runtime.NumCPU(), load())
	return os.WriteFile(page, []byte(before+begin+about+table+"\n"+figuresEnd+after), 0o644)
}

// load returns the machine's average load of five minutes.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	return append(strings.Fields(string(text)), "?", "?")[1]
}

// processor returns the model of the machine's processors, as the kernel has it.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, model, _ := strings.Cut(string(text), "model name\t: ")
	model, _, _ = strings.Cut(model, "\n")
	if model == "" {
		return runtime.GOARCH
	}
	return model
}

// chart draws the time to the first answer: a group of bars for each number of ports, a colour for each contender.
func (f figures) chart(path string) error {
	p := plot.New()
	p.Title.Text = "From the command to the first HTTP 200 at the client"
	p.Y.Label.Text = "milliseconds"
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	colours := []color.RGBA{{0x1f, 0x6f, 0xb4, 0xff}, {0xe0, 0x8a, 0x1e, 0xff}, {0x7b, 0x4f, 0xa3, 0xff}, {0x5b, 0x9a, 0x4a, 0xff}}
	const width = 26
	p.Add(plotter.NewGrid())
	for i, c := range contenders() {
		values := plotter.Values{}
		for _, ports := range portCounts() {
			values = append(values, float64(median(list.Map(f.lives[ports][c.name], func(l life) time.Duration { return l.answer })).Milliseconds()))
		}
		bars, err := plotter.NewBarChart(values, vg.Points(width))
		if err != nil {
			return err
		}
		bars.Color, bars.LineStyle.Width = colours[i], 0
		bars.Offset = vg.Points(width * (float64(i) - 1.5))
		p.Add(bars)
		p.Legend.Add(c.name, bars)
	}
	p.NominalX(list.Map(portCounts(), func(n int) string { return fmt.Sprintf("ports: %d", n) })...)
	return p.Save(18*vg.Centimeter, 9*vg.Centimeter, path)
}
