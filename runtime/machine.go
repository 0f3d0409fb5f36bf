package runtime

import (
	"cmp"
	"io/fs"
	"maps"
	"path"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"

	"github.com/troupe-run/troupe/runtime/task"
)

// capacity is what a process may use of its machine, under what was said of it.
func capacity(machine fs.FS, said task.Resources) task.Resources {
	c := task.Resources{task.SlotResource: defaultSlots * 1000, "cpu": processors(machine, goruntime.NumCPU())}
	if bytes := memoryOf(machine); bytes > 0 {
		c["memory"] = task.Quantity(min(bytes, mostBytes)) * 1000
	}
	if n := gpus(machine); n > 0 {
		c["gpu"] = task.Quantity(n) * 1000
	}
	maps.Copy(c, said)
	return c
}

// labels is what a node is called by, under what was said of it.
func labels(host string, said map[string]string) map[string]string {
	l := map[string]string{"os": goruntime.GOOS, "arch": goruntime.GOARCH}
	if host != "" {
		l["host"] = host
	}
	maps.Copy(l, said)
	return l
}

const mostBytes = 1 << 52 // a thousandth of a byte is counted too

// processors is how much of that many the process may use. How many threads the
// runtime uses says nothing of it: handlers start processes.
func processors(machine fs.FS, there int) task.Quantity {
	may := task.Quantity(there) * 1000
	for _, text := range bounds(machine, "cpu.max") {
		quota, period, _ := strings.Cut(text, " ")
		of, err1 := strconv.ParseInt(quota, 10, 48)
		per, err2 := strconv.ParseInt(period, 10, 48)
		if err1 == nil && err2 == nil && of > 0 && per > 0 {
			may = min(may, max(1, task.Quantity(of*1000/per)))
		}
	}
	return may
}

// memoryOf is how many bytes the process may use; 0 where that is not known.
func memoryOf(machine fs.FS) int64 {
	may := int64(0)
	if kib, ok := strings.CutPrefix(firstLine(machine, "proc/meminfo"), "MemTotal:"); ok {
		n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(kib, "kB")), 10, 53)
		may = n << 10
	}
	for _, text := range bounds(machine, "memory.max") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 && (may == 0 || n < may) {
			may = n
		}
	}
	return may
}

// bounds gives what the control group of the process says in a file, and each group
// that it is in: a bound of any of them holds. In a container the innermost one that
// can be seen stands where the outermost does elsewhere.
func bounds(machine fs.FS, file string) (texts []string) {
	const root = "sys/fs/cgroup"
	raw, _ := fs.ReadFile(machine, "proc/self/cgroup")
	group := "/"
	for line := range strings.Lines(string(raw)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			group = path.Clean("/" + name) // one outside of what can be seen counts as the outermost
		}
	}
	for ; ; group = path.Dir(group) {
		if text := firstLine(machine, path.Join(root, group, file)); text != "" {
			texts = append(texts, text)
		}
		if group == "/" {
			return texts
		}
	}
}

var nvidia = regexp.MustCompile(`^nvidia[0-9]+$`)

// gpus counts the graphics processors that the process could open. It rather finds
// none than takes for one what shares the memory of the machine.
func gpus(machine fs.FS) (n int) {
	devices, _ := fs.ReadDir(machine, "dev")
	for _, d := range devices {
		if nvidia.MatchString(d.Name()) {
			n++
		}
	}
	nodes, _ := fs.ReadDir(machine, "dev/dri")
	for _, d := range nodes {
		if strings.HasPrefix(d.Name(), "renderD") && computes(machine, path.Join("sys/class/drm", d.Name(), "device")) {
			n++
		}
	}
	return n
}

// leastVideo is less memory of its own than any AMD processor has that is no part of
// the machine's main one.
const leastVideo = 4 << 30

// computes says whether a device is a graphics processor with memory of its own, of a
// maker whose processors have no device of another kind.
func computes(machine fs.FS, device string) bool {
	switch firstLine(machine, path.Join(device, "vendor")) {
	case "0x1002": // AMD
		n, _ := strconv.ParseInt(firstLine(machine, path.Join(device, "mem_info_vram_total")), 10, 64)
		return n >= leastVideo
	case "0x8086": // Intel's own in the main processor sits on the first bus
		raw, _ := fs.ReadFile(machine, path.Join(device, "uevent"))
		for line := range strings.Lines(string(raw)) {
			if slot, ok := strings.CutPrefix(strings.TrimSpace(line), "PCI_SLOT_NAME="); ok {
				bus, _, _ := strings.Cut(slot[min(len(slot), 5):], ":")
				return cmp.Or(bus, "00") != "00"
			}
		}
	}
	return false
}

func firstLine(machine fs.FS, name string) string {
	raw, err := fs.ReadFile(machine, name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	return strings.TrimSpace(line)
}
