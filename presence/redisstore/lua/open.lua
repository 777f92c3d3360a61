-- Registers a connection as its user's.
--
-- KEYS as in prelude.lua
-- ARGV 1 not_after
--      2 node  3 epoch, for a partition that has none  4 connections a seat may have
--      5 uid  6 conn  7 at  8 type  9 seat  10 device  11 member  12 1 if the
--      user is known to be online
-- Returns {1, now, accepted, was offline, retry after ms, displaced conn...},
--         {-1, now} if the node was declared dead, {-2, now} if it is too late.
if redis.call('ZSCORE', F, ARGV[2]) then return {-1, text(now)} end
redis.call('HSETNX', M, 'e', ARGV[3])

local most, uid = tonumber(ARGV[4]), ARGV[5]
local add = {ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], '', ARGV[11]}
local at = tonumber(add[AT])
local conns, lingering = read(uid)
local before = lines(conns, lingering)
local was_offline = over(before)

local all, displaced = {}, {}
for _, c in ipairs(conns) do
	if c[CONN] == add[CONN] then
		if newer(c, add) then add = c else add[TAKEOVERS] = c[TAKEOVERS] end
	elseif add[DEVICE] ~= '' and c[DEVICE] == add[DEVICE] and newer(add, c) then
		add[TAKEOVERS] = c[TAKEOVERS]
		displaced[#displaced + 1] = c[CONN]
	else
		all[#all + 1] = c
	end
end
all[#all + 1] = add
table.sort(all, newer)

local kept, seats, holder = {}, {}, nil
for _, c in ipairs(all) do
	seats[c[SEAT]] = (seats[c[SEAT]] or 0) + 1
	if seats[c[SEAT]] > most or #kept == MAX_SEATS then
		if c[CONN] ~= ARGV[6] then displaced[#displaced + 1] = c[CONN] end
		if c[SEAT] == add[SEAT] and c ~= add then holder = c end
	else
		kept[#kept + 1] = c
	end
end

-- A seat for one that changes hands too often stays with whom it has.
if most == 1 and holder then
	local n, since = string.match(holder[TAKEOVERS], '^(%d+):(%d+)$')
	if n and at - tonumber(since) < TAKEOVER_WINDOW then
		n = tonumber(n) + 1
	else
		n, since = 1, text(at)
	end
	if n > MAX_TAKEOVERS then
		local wait = math.max(1000, tonumber(since) - at + TAKEOVER_WINDOW)
		return {1, text(now), 0, 0, wait}
	end
	add[TAKEOVERS] = n .. ':' .. since
end

local accepted = 0
for _, c in ipairs(kept) do
	if c[CONN] == ARGV[6] and c[AT] == ARGV[7] then accepted = 1 end
end
commit(uid, before, kept, '', ARGV[12] == '1')
local reply = {1, stamp(), accepted, was_offline and 1 or 0, 0}
for _, conn in ipairs(displaced) do reply[#reply + 1] = conn end
return reply
