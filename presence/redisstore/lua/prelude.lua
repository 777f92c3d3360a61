-- Prepended to the scripts that change a partition. All keys carry the hash tag
-- {pN}, so that a call stays in one slot; every key is declared.
--
-- KEYS 1 u   HASH  uid -> record
--      2 t   ZSET  by name only: "\tuid" for each user, "type\tuid" for each of its types
--      3 m   HASH  e: epoch, s: sequence, n:<node>: connections of a node,
--                  v: sequence of the last change, w: until when somebody listens
--      4 g   ZSET  lingering uid -> when it is offline
--      5 f   ZSET  fenced node -> until when
--      6 ev  STREAM  changes, if somebody listens, by their sequence
--      7 o   HASH  uid that resumes -> "sequence floor window": of the newest
--                  message, of the last that was dropped, in milliseconds
--      8 r   ZSET  uid of these that is offline -> when it is forgotten
-- ARGV 1 not_after: in milliseconds of this server's clock; a call that comes
--      later does nothing, because its caller has given up. 0: never.
--
-- A record is one line for each connection,
-- "conn\tat\ttype\tseat\tdevice\ttakeovers\tmember", newest first. A lingering
-- user has one line instead: conn is "-", at is when the last connection
-- closed, seat is its id, device why it did, and takeovers when the user is
-- offline.
local U, T, M, G, F, EV = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local O, R = KEYS[7], KEYS[8]
local CONN, AT, TYPE, SEAT, DEVICE, TAKEOVERS = 1, 2, 3, 4, 5, 6

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Lua writes large numbers in scientific form unless told otherwise.
local function text(number) return string.format('%.0f', number) end

-- stamp is when the call was carried out, and the sequence that it left, if it
-- changed something: by it the caller finds out if that is lost.
local seq = 0
local function stamp() return text(now) .. ' ' .. text(seq) end

local not_after = tonumber(ARGV[1])
if not_after > 0 and now > not_after then return {-2, text(now)} end

-- read returns a user's connections, and its line while it lingers.
local function read(uid)
	local conns, lingering = {}, nil
	local record = redis.call('HGET', U, uid)
	if record then
		for line in string.gmatch(record, '[^\n]+') do
			local l = {string.match(line, '^([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$')}
			if l[CONN] == '-' then lingering = l else conns[#conns + 1] = l end
		end
	end
	return conns, lingering
end

-- newer orders the connections of a user by time, then by id.
local function newer(x, y)
	local p, q = tonumber(x[AT]), tonumber(y[AT])
	if p ~= q then return p > q end
	return x[CONN] > y[CONN]
end

-- mark adds n for what a line is counted under: its types in types, its node in
-- nodes.
local function mark(lines, n, types, nodes)
	local seen = {}
	for _, l in ipairs(lines) do
		if not seen[l[TYPE]] then
			seen[l[TYPE]] = true
			types[l[TYPE]] = (types[l[TYPE]] or 0) + n
		end
		if l[CONN] ~= '-' then
			local node = string.match(l[CONN], '^[^.]*')
			nodes[node] = (nodes[node] or 0) + n
		end
	end
end

-- change writes down that a user came online, or went offline.
local function change(kind, uid, line, conn, cause)
	local heads = redis.call('HMGET', M, 'v', 'w')
	if heads[2] and tonumber(heads[2]) > now then
		local function add()
			return redis.pcall('XADD', EV, 'MAXLEN', '~', MAX_CHANGES, text(seq) .. '-0', 'p', heads[1] or '0',
				'k', kind, 'u', uid, 'c', conn, 'r', cause, 'a', text(now), 't', line[TYPE], 'm', line[7])
		end
		local added = add()
		if type(added) == 'table' and added.err then -- the sequence was lost, and the stream not
			redis.call('DEL', EV)
			add()
		end
		redis.call('PEXPIRE', EV, CHANGES_TIME)
	end
	redis.call('HSET', M, 'v', seq)
end

-- over is whether a user with these lines is offline.
local function over(lines)
	local l = lines[1]
	return not l or l[CONN] == '-' and tonumber(l[TAKEOVERS]) <= now
end

-- went writes down that a user with these lines went offline.
local function went(uid, lines, cause)
	local l = lines[1]
	if l[CONN] == '-' then
		change('offline', uid, l, l[SEAT], l[DEVICE])
	else
		change('offline', uid, l, l[CONN], cause)
	end
end

-- commit replaces a user's lines, and keeps every index and count exact. cause is
-- why it has none any more; quiet, that its being online is no change.
local function commit(uid, before, after, cause, quiet)
	local types, nodes = {}, {}
	mark(before, -1, types, nodes)
	mark(after, 1, types, nodes)
	for typ, n in pairs(types) do
		if typ ~= '' then
			if n > 0 then redis.call('ZADD', T, 0, typ .. '\t' .. uid) end
			if n < 0 then redis.call('ZREM', T, typ .. '\t' .. uid) end
		end
	end
	for node, n in pairs(nodes) do
		if n ~= 0 and redis.call('HINCRBY', M, 'n:' .. node, n) <= 0 then
			redis.call('HDEL', M, 'n:' .. node)
		end
	end
	seq = redis.call('HINCRBY', M, 's', 1)
	if #before > 0 and (#after == 0 or over(before)) then
		went(uid, before, cause)
	end
	if #after > 0 and over(before) and not quiet then
		if #before > 0 then seq = redis.call('HINCRBY', M, 's', 1) end
		change('online', uid, after[1], after[1][CONN], '')
	end
	redis.call('ZREM', G, uid)
	if #after == 0 then
		redis.call('HDEL', U, uid)
		redis.call('ZREM', T, '\t' .. uid)
		local resumes = redis.call('HGET', O, uid)
		if resumes then redis.call('ZADD', R, text(now + tonumber(string.match(resumes, '%d+$'))), uid) end
		return
	end
	local record = {}
	for i, l in ipairs(after) do record[i] = table.concat(l, '\t') end
	redis.call('HSET', U, uid, table.concat(record, '\n'))
	if #before == 0 then
		redis.call('ZADD', T, 0, '\t' .. uid)
		redis.call('ZREM', R, uid)
	end
	if after[1][CONN] == '-' then redis.call('ZADD', G, after[1][TAKEOVERS], uid) end
end

-- lines is what a user's record has now: its connections, or the line of a
-- lingering user.
local function lines(conns, lingering)
	if #conns == 0 and lingering then return {lingering} end
	return conns
end
