package worker

import "testing"

// TestKiller: the end of a process says whether the kernel has killed for lack of memory meanwhile, if the kernel tells.
func TestKiller(t *testing.T) {
	t.Parallel()
	const vmstat = "nr_free_pages 12\noom_kill 3\npgfault 7\n"
	for text, want := range map[string]int{vmstat: 3, "nr_free_pages 12\n": -1, "oom_kill x\n": -1, "oom_kill -1": -1, "": -1} {
		if got := memoryKillsIn(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	for at, want := range map[[2]int]string{
		{-1, 4}: "killed by SIGKILL, by another process or by the kernel for lack of memory",
		{4, -1}: "killed by SIGKILL, by another process or by the kernel for lack of memory",
		{3, 4}:  "killed by SIGKILL, probably by the kernel for lack of memory",
		{3, 3}:  "killed by SIGKILL, by another process and not for lack of memory",
	} {
		if got := killer(at[0], at[1]); got != want {
			t.Errorf("%v: %q, want %q", at, got, want)
		}
	}
}
