-- Registers connections as their users'.
--
-- KEYS as in prelude.lua
-- ARGV 1 not_after  2 node  3 epoch, for a partition that has none
--      then groups of 9: connections a seat may have, uid, conn, at, type, seat,
--      device, member, 1 if the user is known to be online
-- Returns {1, now, for each {accepted, was offline, retry after ms, displaced
--         conn...}}, {-1, now} if the node was declared dead, {-2, now} if it is
--         too late.
if redis.call('ZSCORE', F, ARGV[2]) then return {-1, text(now)} end
redis.call('HSETNX', M, 'e', ARGV[3])

-- seat_all works out which connections a user has once add opens, which lose their
-- place, and which of them had the seat that add takes.
local function seat_all(conns, add, most)
	local all, displaced = {}, {}
	local conn = add[CONN]
	for _, c in ipairs(conns) do
		if c[CONN] == conn then
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
			if c[CONN] ~= conn then displaced[#displaced + 1] = c[CONN] end
			if c[SEAT] == add[SEAT] and c ~= add then holder = c end
		else
			kept[#kept + 1] = c
		end
	end
	return add, kept, displaced, holder
end

-- took counts that a seat changes hands at a time, and returns how long it stays
-- with whom it has, or 0.
local function took(add, holder, at)
	local n, since = string.match(holder[TAKEOVERS], '^(%d+):(%d+)$')
	if n and at - tonumber(since) < TAKEOVER_WINDOW then
		n = tonumber(n) + 1
	else
		n, since = 1, text(at)
	end
	if n > MAX_TAKEOVERS then return math.max(1000, tonumber(since) - at + TAKEOVER_WINDOW) end
	add[TAKEOVERS] = n .. ':' .. since
	return 0
end

local function open(most, uid, conn, at, typ, seat, device, member, quiet)
	local conns, lingering = read(uid)
	local before = lines(conns, lingering)
	local was_offline = over(before)
	local add, kept, displaced, holder = seat_all(conns, {conn, at, typ, seat, device, '', member}, most)
	if most == 1 and holder then
		local wait = took(add, holder, tonumber(at))
		if wait > 0 then return {0, 0, wait} end
	end
	local accepted = 0
	for _, c in ipairs(kept) do
		if c[CONN] == conn and c[AT] == at then accepted = 1 end
	end
	commit(uid, before, kept, '', quiet)
	local result = {accepted, was_offline and 1 or 0, 0}
	for _, c in ipairs(displaced) do result[#result + 1] = c end
	return result
end

local reply = {1, 0}
for i = 4, #ARGV, 9 do
	local a = {unpack(ARGV, i, i + 8)}
	reply[#reply + 1] = open(tonumber(a[1]), a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9] == '1')
end
reply[2] = stamp()
return reply
