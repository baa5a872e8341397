-- Returns the node's marker and the server's incarnation, rewrites the marker if requested, and records the node's clock.
--
-- KEYS[1]  the node's marker
-- KEYS[2]  how far its clock had come when it was noted last, in microseconds
-- ARGV[1]  what is to be written in front of incarnation and time; empty to write nothing
-- ARGV[2]  the marker that it may replace; empty for none
-- ARGV[3]  how long ago its time is to be set, in microseconds
-- ARGV[4]  the time by the writer's clock, in microseconds, 0 where nothing can have been forgotten; and what every
--          number is to be above
--
-- Returns  {marker, incarnation, evicts, now, latest, fences, length, memory}
-- with an empty marker if there is none (and no marker of ours in place of a key of another type), an incarnation (see
-- below), 1 if keys are evicted when memory is full, now in microseconds, how far the clock had come before (0: not
-- known), about how many fences are kept here (-1: not known), how long their keys are on average, and how many bytes of
-- memory there are for all (0: no limit);
-- or the error reply of a command that the server refused, or one that begins with UNFIT: what INFO must show is not there.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- One section at a time: 6.2 cannot be asked for two.
local replication = redis.call('INFO', 'replication')
local role = string.match(replication, 'role:(%S+)')
if role and role ~= 'master' then
    return redis.error_reply('READONLY this node is a replica')
end
-- Whatever may have cost this database a key changes its incarnation. A restart changes the run id, a change of role the
-- replication id. What else is counted is named only where there is something to count.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local data = string.match(replication, 'master_replid:(%x+)')
if not (role and run and data) then
    local missing = not role and 'role' or not run and 'run_id' or 'master_replid'
    return redis.error_reply('UNFIT cannot tell a restart: INFO shows no ' .. missing)
end
local incarnation = run .. ':' .. data
-- Memory may have been limited between two readings: what was evicted then is forgotten, as after a restart.
local evicted = string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)')
if evicted and evicted ~= '0' then
    incarnation = incarnation .. ':' .. evicted
end
-- Other data may have come in the place of ours, and with them a marker of before: swapped in, or restored after a flush.
local calls, swaps = redis.call('INFO', 'commandstats'), 0
for _, command in ipairs({'swapdb', 'flushall'}) do
    swaps = swaps + (string.match(calls, 'cmdstat_' .. command .. ':calls=(%d+)') or 0)
end
if swaps > 0 then
    incarnation = string.format('%s:s%d', incarnation, swaps)
end
-- While it evicts it is not what it will be when it has stopped: CONFIG RESETSTAT forgets the count of evictions.
local memory = redis.call('INFO', 'memory')
local limit = tonumber(string.match(memory, 'maxmemory:(%d+)')) or 0
local is_limited = limit > 0
local evicts = is_limited and string.match(memory, 'maxmemory_policy:([%a-]+)') ~= 'noeviction'
if evicts then
    incarnation = incarnation .. ':evicts'
end

local marker = redis.pcall('GET', KEYS[1]) or ''
if type(marker) == 'table' then
    if not string.find(marker.err, 'WRONGTYPE', 1, true) then
        return marker
    end
    marker = 'of another type'
end
if ARGV[1] ~= '' and marker == ARGV[2] then
    marker = string.format('%s %s %.0f %s', ARGV[1], incarnation, now - tonumber(ARGV[3]), ARGV[4])
    -- A server that is out of memory refuses the first write of a script unless it is one that frees memory, as DEL is: what
    -- a node that evicts remembers of itself must not stay as it was.
    redis.call('DEL', KEYS[1])
    redis.call('SET', KEYS[1], marker)
end

-- Where no fence is left, numbers go on from the clock. One that was set back must be known for what it is. What the server
-- refuses here costs no more than that.
local latest = tonumber(redis.pcall('GET', KEYS[2])) or 0
-- An infinity modulo 1 is not 0 either. What is above 2^53 - 2^40 was not written by us.
if latest % 1 ~= 0 or latest < 0 or latest > 9006099743113216 then
    latest = 0
end
local longest = string.match(marker, '^quorlock3 %x+ %d+ %d+ (%d+)')
-- Four times in a max ttl is often enough, and seldom enough for a disk.
if longest and now > latest + longest * 250 then
    redis.pcall('SET', KEYS[2], string.format('%.0f', now))
end

-- A page of the keys tells what share of all are fences, to users who may look.
local page, all = redis.pcall('SCAN', '0', 'COUNT', '50')[2], redis.pcall('DBSIZE')
local fences, length = -1, 0
if page and type(all) == 'number' then
    fences = 0
    for _, key in ipairs(page) do
        if string.sub(key, 1, 15) == 'quorlock:fence:' then
            fences, length = fences + 1, length + #key
        end
    end
    if fences > 0 then
        length = math.floor(length / fences)
        fences = math.ceil(fences / #page * all)
    end
end
return {marker, incarnation, evicts and 1 or 0, now, latest, fences, length, limit}
