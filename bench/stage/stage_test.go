package stage

import (
	"testing"
	"time"
)

func TestParseBusy(t *testing.T) {
	const stat = "cpu  100 20 30 4000 500 6 7 8 90 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
	if got, want := parseBusy(stat), 1710*time.Millisecond; got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestInsertKeepsTheRest(t *testing.T) {
	const begin = "<!-- make bench writes from here -->\n"
	got, err := insert("before\n"+begin+"old\n"+endMark+"after\n", "bench", "new\n")
	if want := "before\n" + begin + "new\n" + endMark + "after\n"; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", begin, endMark, endMark + begin, "<!-- make other writes from here -->\n" + endMark} {
		if _, err := insert(bad, "bench", "new"); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
