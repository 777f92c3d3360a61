package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// What the plan supposes of users and machines. The document says so.
const (
	users        = 10_000_000
	stays        = 30 * 60 // seconds that a connection lasts
	pushedEvery  = 5 * 60  // seconds from one push to a user to the next
	beatEvery    = 60      // seconds from one heartbeat to the next
	usersOfANode = 200_000
	spareNodes   = 0.1 // nodes beyond those that are needed, as a part
	comesBack    = 30  // seconds in which the users of a killed node come back
	busy         = 0.6 // how busy the one thread of a Redis may be, of a core
	memoryFactor = 1.5 // Redis's memory for a byte of data: fragments, buffers, what is under way
)

// costs are what a plan is computed from: CPU in µs, memory in bytes.
type costs struct {
	open, replace, lost, lookup float64 // of Redis, a member
	push                        float64 // of Redis, a push to a user on another node, of 8 at once
	streamed, sparse            float64 // the same in a stream, and at the fixed rate
	upkeep                      float64 // of Redis, a node and second
	reap                        float64 // of Redis, a member
	reapTime                    float64 // seconds, a member
	member                      float64 // bytes of Redis

	nodePush    float64 // of all nodes, a push of 8 at once
	nodeConnect float64 // of a node, a connect over TLS
	nodeBeat    float64 // of a node, a heartbeat
	connection  float64 // bytes of a node, a connection over TLS
}

// costsOf takes what was measured with the most nodes and members, and what
// docs/benchmarks.md says of a node.
func costsOf(m *measurement, benchmarks string) (costs, error) {
	nodes, fill := m.Nodes[len(m.Nodes)-1], m.Fills[len(m.Fills)-1]
	c := costs{
		open: fill.Redis["open"], replace: fill.Redis["replace"], lost: fill.Redis["linger"], lookup: fill.Redis["lookup"],
		push: nodes.RedisOf["push"], streamed: nodes.RedisOf["stream"], sparse: nodes.RedisOf["pushrate"],
		upkeep: nodes.Idle / float64(nodes.Nodes),
		reap:   m.Reap.PerMember, reapTime: m.Reap.Took.Seconds() / float64(m.Reap.Removed), member: fill.Bytes,
		nodePush: nodes.NodesOf["push"],
	}
	for pattern, value := range map[string]*float64{
		`\| this module, TLS: CPU of a connect, µs \| ([\d.]+) \|`:      &c.nodeConnect,
		`\| this module \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|`:             &c.nodeBeat,
		`\| this module, TLS: KiB of an idle connection \| ([\d.]+) \|`: &c.connection,
	} {
		found := regexp.MustCompile(pattern).FindStringSubmatch(benchmarks)
		if found == nil {
			return c, fmt.Errorf("docs/benchmarks.md has no %s", pattern)
		}
		*value, _ = strconv.ParseFloat(found[1], 64) // it is digits
	}
	c.connection *= 1024
	return c, nil
}

// load is a part of what Redis, or the nodes, have to do.
type load struct {
	what      string
	perSecond float64
	cost      float64 // CPU in µs, each
	byInbox   bool    // it falls on the inboxes of nodes, not on partitions
}

func (l load) cores() float64 { return l.perSecond * l.cost / 1e6 }

func cores(loads []load) (sum float64) {
	for _, l := range loads {
		sum += l.cores()
	}
	return sum
}

// plan is for as many users as that, on paper.
type plan struct {
	costs
	nodes   int // with those to spare
	redis   []load
	each    []load // of a node
	memory  float64
	masters int
}

func newPlan(m *measurement, benchmarks string) (*plan, error) {
	c, err := costsOf(m, benchmarks)
	if err != nil {
		return nil, err
	}
	return planFor(c), nil
}

func planFor(c costs) *plan {
	nodes := int(math.Ceil(users / usersOfANode * (1 + spareNodes)))
	p := &plan{costs: c, nodes: nodes, memory: users * c.member * memoryFactor}
	p.redis = []load{
		{"opens", users / stays, c.open, false},
		{"connections lost, and forgotten", users / stays, c.lost, false},
		{"pushes: finding the user", users / pushedEvery, c.lookup, false},
		{"pushes: to its node and back", users / pushedEvery, c.push - c.lookup, true},
		{"upkeep of the nodes", float64(nodes), c.upkeep, false},
		{"a killed node's users come back", usersOfANode / comesBack, c.replace, false},
	}
	one := usersOfANode
	p.each = []load{
		{"heartbeats", float64(one) / beatEvery, c.nodeBeat, false},
		{"connects, TLS", float64(one) / stays, c.nodeConnect, false},
		{"pushes to one user", float64(one) / pushedEvery, c.nodePush, false},
	}
	for p.masters = 1; p.masters < partitions && p.busiest(p.masters) > busy; p.masters++ {
	}
	return p
}

// busiest is what a master has to do, of a core, that has the most partitions and
// the most inboxes of so many masters.
func (p *plan) busiest(masters int) (sum float64) {
	for _, l := range p.redis {
		share := imbalance(masters)
		if l.byInbox {
			share = inboxImbalance(p.nodes, masters)
		}
		sum += l.cores() / float64(masters) * share
	}
	return sum
}

// carried is how many users of the plan's kind a Redis carries by itself.
func (p *plan) carried() float64 {
	perUser := (p.open+p.lost)/stays + p.push/pushedEvery + p.upkeep/usersOfANode
	return busy * 1e6 / perUser
}

// partitions and slots are those of presence/redisstore, and of a Cluster.
const (
	partitions = 64
	slots      = 16384
)

// imbalance is how many partitions the master has that has the most, as a part of
// the mean, if masters have even ranges of slots, as redis-cli gives them.
func imbalance(masters int) float64 {
	has := make([]int, masters)
	most := 0
	for p := range partitions {
		master := slot("p"+strconv.Itoa(p)) * masters / slots
		has[master]++
		most = max(most, has[master])
	}
	return float64(most) * float64(masters) / partitions
}

// inboxImbalance is how many inboxes the master has that has the most, as a part of
// the mean. Their names are random: it is the mean of many draws, always the same.
func inboxImbalance(nodes, masters int) float64 {
	const draws = 1000
	random := rand.New(rand.NewPCG(1, 2))
	sum := 0
	for range draws {
		has := make([]int, masters)
		for range nodes {
			has[random.IntN(masters)]++
		}
		sum += slices.Max(has)
	}
	return float64(sum) / draws * float64(masters) / float64(nodes)
}

// slot is the slot of a Cluster that a hash tag is in: CRC-16/XMODEM.
func slot(tag string) int {
	crc := uint16(0)
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			high := crc & 0x8000
			crc <<= 1
			if high != 0 {
				crc ^= 0x1021
			}
		}
	}
	return int(crc) % slots
}

// costly is the same plan if each push cost what it does at the fixed rate.
func (p *plan) costly() *plan {
	c := p.costs
	c.push = c.sparse
	return planFor(c)
}

func (p *plan) write(b *strings.Builder) {
	b.WriteString("\n### What one Redis carries\n\n")
	fmt.Fprintf(b, carries, busy*100, thousands(busy*1e6, 9), stays/60, pushedEvery/60)
	b.WriteString("| alone, in a second | Redis CPU, µs | as many |\n|---|---|---|\n")
	for _, l := range []load{
		{what: "opens", cost: p.open},
		{what: "pushes to one user on another node, a POST each", cost: p.push},
		{what: "the same in a stream", cost: p.streamed},
		{what: "the same at the fixed rate", cost: p.sparse},
		{what: "look-ups of one user", cost: p.lookup},
	} {
		fmt.Fprintf(b, "| %s | %s | %s |\n", l.what, stage.Number(l.cost), thousands(busy*1e6/l.cost, 2))
	}
	fmt.Fprintf(b, "| **users of the plan below** | %s a user and minute | **%s** |\n", stage.Number(60*busy*1e6/p.carried()), thousands(p.carried(), 2))
	fmt.Fprintf(b, "| the same, if pushes cost what they do at the fixed rate | %s a user and minute | %s |\n", stage.Number(60*busy*1e6/p.costly().carried()), thousands(p.costly().carried(), 2))
	fmt.Fprintf(b, "\nMemory is not what ends first: those users take %.1f GB.\n", p.carried()*p.member/1e9)

	fmt.Fprintf(b, "\n### A plan for %s users\n\n", thousands(users, 9))
	fmt.Fprintf(b, supposed, stays/60, beatEvery, pushedEvery/60, thousands(usersOfANode, 9), comesBack)
	table(b, "Redis", p.redis)
	var others []string
	for _, n := range []int{1, 3, 4, 8, 12, 16, 24} {
		others = append(others, fmt.Sprintf("%d %.0f %%", n, 100*p.busiest(n)))
	}
	fmt.Fprintf(b, "\n- **Redis masters**: a Cluster of **%d**, each with a replica. They differ in how many partitions and\n"+
		"  inboxes they have: one with the most of both (%.2f and %.2f times the mean) has %.0f %% of a core\n"+
		"  to do. Likewise of %s.\n"+
		"  At the costs of the fixed rate it would be a Cluster of %d.\n",
		p.masters, imbalance(p.masters), inboxImbalance(p.nodes, p.masters), 100*p.busiest(p.masters), strings.Join(others, ", "), p.costly().masters)
	fmt.Fprintf(b, "- **Memory of Redis**: %s × %.0f B × %.1f = %.1f GB, of which the fullest master has %.1f GB, and its replica as much.\n",
		thousands(users, 9), p.member, memoryFactor, p.memory/1e9, p.memory/float64(p.masters)*imbalance(p.masters)/1e9)
	fmt.Fprintf(b, "- **Nodes**: %s ÷ %s = %d, and %.0f %% to spare: **%d**. Connections over TLS take %.1f GB of each,\n"+
		"  besides what the kernel holds for its sockets. Its CPU:\n\n",
		thousands(users, 9), thousands(usersOfANode, 9), users/usersOfANode, spareNodes*100, p.nodes, usersOfANode*p.connection/1e9)
	table(b, "a node", p.each)
	fmt.Fprintf(b, "\n- **A node that is killed** costs %s × %s µs = %.1f s of CPU, spread over the masters. Another node takes\n"+
		"  its members out partition by partition, in about %.0f s.\n",
		thousands(usersOfANode, 9), stage.Number(p.reap), usersOfANode*p.reap/1e6, usersOfANode*p.reapTime)
}

const carries = `Redis carries out commands in one thread. Kept below %.0f %% of a core, so that calls
do not queue, it has %s µs in a second for the formula above. Users as the plan has them stay
for %d minutes, and get a push every %d minutes.

A push is dear at the fixed rate because Redis sleeps between two commands there, and waking it is
a large part of what the kernel counts: see a push with one node, which is one look-up. A Redis
that has to be planned for is awake, so the plan takes POSTs by 8 callers, and tells the other.

`

const supposed = `Supposed: a connection lasts %d minutes, then is lost and comes back later; a heartbeat every %d s;
a push of its own every %d minutes, from any node to any other; %s users on a node; when a node
is killed, its users come back within %d s, at the busiest hour.

`

func table(b *strings.Builder, of string, loads []load) {
	fmt.Fprintf(b, "| %s | in a second | CPU, µs | cores |\n|---|---|---|---|\n", of)
	for _, l := range loads {
		fmt.Fprintf(b, "| %s | %s | %s | %.2f |\n", l.what, thousands(l.perSecond, 9), stage.Number(l.cost), l.cores())
	}
	fmt.Fprintf(b, "| together | | | %.2f |\n", cores(loads))
}

// thousands prints a whole number with commas, rounded to so many digits.
func thousands(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	if v >= 1 {
		unit := math.Pow(10, max(0, math.Floor(math.Log10(v))+1-float64(digits)))
		v = math.Round(v/unit) * unit
	}
	text := strconv.FormatFloat(v, 'f', 0, 64)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
