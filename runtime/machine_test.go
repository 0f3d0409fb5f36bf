package runtime

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/troupe-run/troupe/runtime/task"
)

// files makes a machine of its files, each as "name: text".
func files(lines ...string) fstest.MapFS {
	machine := fstest.MapFS{}
	for _, l := range lines {
		name, text, _ := strings.Cut(l, ": ")
		machine[name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	return machine
}

func TestCapacityIsWhatTheProcessMayUse(t *testing.T) {
	t.Parallel()
	const memory = "proc/meminfo: MemTotal:        8000000 kB\nMemFree: 1 kB"
	for name, c := range map[string]struct {
		machine        fstest.MapFS
		cpu, mem, gpus int64 // thousandths, bytes, whole
	}{
		"nothing is known":  {files(), 8000, 0, 0},
		"the whole machine": {files(memory, "proc/self/cgroup: 0::/"), 8000, 8000000 << 10, 0},
		"no bound": {
			files(memory, "proc/self/cgroup: 0::/a", "sys/fs/cgroup/a/cpu.max: max 100000", "sys/fs/cgroup/a/memory.max: max"),
			8000, 8000000 << 10, 0,
		},
		"in a container": {
			files(memory, "proc/self/cgroup: 0::/", "sys/fs/cgroup/cpu.max: 150000 100000", "sys/fs/cgroup/memory.max: 1073741824"),
			1500, 1 << 30, 0,
		},
		"the tightest bound of all groups": {
			files(memory, "proc/self/cgroup: 12:cpu:/x\n0::/a.slice/b.service",
				"sys/fs/cgroup/a.slice/cpu.max: 200000 100000", "sys/fs/cgroup/a.slice/b.service/cpu.max: 400000 100000",
				"sys/fs/cgroup/a.slice/memory.max: 4096", "sys/fs/cgroup/a.slice/b.service/memory.max: 2048"),
			2000, 2048, 0,
		},
		"more is allowed than there is": {
			files(memory, "sys/fs/cgroup/cpu.max: 6400000 100000", "sys/fs/cgroup/memory.max: 9223372036854771712"),
			8000, 8000000 << 10, 0,
		},
		"a group outside of what can be seen": {
			files("proc/self/cgroup: 0::/../../other", "sys/fs/cgroup/cpu.max: 50000 100000"), 500, 0, 0,
		},
		"a bound that is none": {
			files(memory, "sys/fs/cgroup/cpu.max: 100000", "sys/fs/cgroup/memory.max: much"), 8000, 8000000 << 10, 0,
		},
		"no memory known but a bound of it": {files("sys/fs/cgroup/memory.max: 4096"), 8000, 4096, 0},
		"NVIDIA": {
			files("dev/nvidia0: ", "dev/nvidia11: ", "dev/nvidiactl: ", "dev/nvidia-uvm: ", "dev/dri/renderD128: ",
				"sys/class/drm/renderD128/device/vendor: 0x10de"), 8000, 0, 2,
		},
		"AMD with memory of its own and without": {
			files("dev/dri/renderD128: ", "dev/dri/renderD129: ", "dev/dri/card0: ",
				"sys/class/drm/renderD128/device/vendor: 0x1002", "sys/class/drm/renderD128/device/mem_info_vram_total: 17163091968",
				"sys/class/drm/renderD129/device/vendor: 0x1002", "sys/class/drm/renderD129/device/mem_info_vram_total: 536870912"),
			8000, 0, 1,
		},
		"Intel beside the main processor and within": {
			files("dev/dri/renderD128: ", "dev/dri/renderD129: ", "dev/dri/renderD130: ",
				"sys/class/drm/renderD128/device/vendor: 0x8086", "sys/class/drm/renderD128/device/uevent: DRIVER=i915\nPCI_SLOT_NAME=0000:00:02.0",
				"sys/class/drm/renderD129/device/vendor: 0x8086", "sys/class/drm/renderD129/device/uevent: PCI_SLOT_NAME=0000:03:00.0",
				"sys/class/drm/renderD130/device/vendor: 0x8086"),
			8000, 0, 1,
		},
		"a GPU that the process cannot open": {
			files("sys/class/drm/renderD128/device/vendor: 0x8086", "sys/class/drm/renderD128/device/uevent: PCI_SLOT_NAME=0000:03:00.0"), 8000, 0, 0,
		},
	} {
		if got := processors(c.machine, 8); int64(got) != c.cpu {
			t.Errorf("%s: %s CPUs, want %s", name, got, task.Quantity(c.cpu))
		}
		if got := memoryOf(c.machine); got != c.mem {
			t.Errorf("%s: %d bytes of memory, want %d", name, got, c.mem)
		}
		if got := gpus(c.machine); int64(got) != c.gpus {
			t.Errorf("%s: %d GPUs, want %d", name, got, c.gpus)
		}
	}
}

func TestWhatIsSaidOfACapacityCounts(t *testing.T) {
	t.Parallel()
	machine := files("proc/meminfo: MemTotal: 4 kB", "dev/nvidia0: ")
	got := capacity(machine, task.Resources{"cpu": 500, "openai": 20000})
	want := task.Resources{"slots": 1000000, "cpu": 500, "memory": 4096000, "gpu": 1000, "openai": 20000}
	if got.String() != want.String() {
		t.Fatalf("%s, want %s", got, want)
	}
	if got := capacity(machine, task.Resources{"gpu": 0})["gpu"]; got != 0 {
		t.Fatalf("%s GPUs, where it was said that there are none to use", got)
	}
}

func TestNodeIsLabelledAsItsMachineUnlessSaid(t *testing.T) {
	t.Parallel()
	got := labels("box", map[string]string{"zone": "a", "arch": "other"})
	if got["host"] != "box" || got["os"] == "" || got["arch"] != "other" || got["zone"] != "a" || len(got) != 4 {
		t.Fatalf("%v", got)
	}
	if got := labels("", nil); len(got) != 2 {
		t.Fatalf("%v of a machine without a name", got)
	}
	if _, err := Open(t.Context(), WithLabels(map[string]string{"a=b": "c"})); err == nil {
		t.Fatal("a label that nobody could ask for is taken")
	}
}
