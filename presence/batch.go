package presence

import "context"

// Started is what Start returns for one push of several.
type Started struct {
	Delivery *Delivery
	Err      error
}

// StartAll is Start for each of several pushes, in their order. Their users are
// looked up in one step.
func (h *Hub) StartAll(ctx context.Context, pushes []*Push) []Started {
	found := h.lookUpAll(ctx, pushes)
	out := make([]Started, len(pushes))
	for i, p := range pushes {
		out[i].Delivery, out[i].Err = h.startFound(ctx, p, found)
	}
	return out
}

// lookUpAll looks up the users of pushes, or returns nil where that is of no use.
func (h *Hub) lookUpAll(ctx context.Context, pushes []*Push) map[UserID]*User {
	if len(pushes) < 2 || h.keeps() { // the message itself is what is written then
		return nil
	}
	var ids []UserID
	for _, p := range pushes {
		ids = append(ids, p.To.IDs...)
	}
	if len(ids) > MaxPushIDs {
		return nil
	}
	users, err := h.Store().Lookup(ctx, h.name, unique(ids))
	if err != nil {
		return nil // each push finds out by itself
	}
	found := make(map[UserID]*User, len(users))
	for i := range users {
		found[users[i].ID] = &users[i]
	}
	return found
}
