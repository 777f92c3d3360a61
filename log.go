package caddypresence

import (
	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// defaultLog returns a logger for what outlives configurations: each line goes
// where the default log of the configuration goes that runs then.
func defaultLog(name string) *zap.Logger {
	return zap.New(currentCore{}).Named(name)
}

// currentCore hands on to the core of Caddy's default log.
type currentCore struct {
	fields []zapcore.Field
}

// Enabled implements zapcore.Core.
func (currentCore) Enabled(l zapcore.Level) bool { return caddy.Log().Core().Enabled(l) }

// With implements zapcore.Core.
func (c currentCore) With(fields []zapcore.Field) zapcore.Core {
	return currentCore{append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

// Check implements zapcore.Core; the core that it adds writes the line itself.
func (c currentCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return caddy.Log().Core().With(c.fields).Check(e, ce)
}

// Write implements zapcore.Core; Check never names this core.
func (c currentCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	return caddy.Log().Core().With(c.fields).Write(e, fields)
}

// Sync implements zapcore.Core.
func (currentCore) Sync() error { return caddy.Log().Core().Sync() }
