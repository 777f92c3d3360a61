package presence

// Cause says why a connection left presence. It decides how long its user
// lingers, and is the reason that an offline event gives.
type Cause string

const (
	CauseClient   Cause = "client"    // the frame close, or close code 1000
	CauseLost     Cause = "lost"      // 1001, 3001, end of file, reset
	CauseTimeout  Cause = "timeout"   // no sign of life
	CauseStop     Cause = "stop"      // this node stops or drains
	CauseNodeLost Cause = "node_lost" // the node crashed
	CauseKicked   Cause = "kicked"    // by an operator
	CauseReplaced Cause = "replaced"  // by a newer connection of the user
	CauseExpired  Cause = "expired"   // its identity expired
)
