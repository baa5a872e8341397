-- Returns the node's marker and the server's incarnation, and writes a new marker if requested.
-- Records the node's clock.
--
-- KEYS[1]  the node's marker
-- KEYS[2]  the last recorded time of the node's clock, in microseconds
-- ARGV[1]  the start of a new marker, before incarnation and time; empty to write nothing
-- ARGV[2]  the marker that the new one may replace; empty for none
-- ARGV[3]  by how much the new marker's time is backdated, in microseconds
-- ARGV[4]  two numbers: the writer's clock in microseconds, 0 if no data can be lost; and the base of all
--          fencing numbers
--
-- Returns  {marker, incarnation, evicts, now, latest, fences, length, memory}
--   marker       empty if there is none, and no valid marker if the key has another type
--   incarnation  see below
--   evicts       1 if keys are evicted when memory is full
--   now          the node's clock in microseconds
--   latest       the last recorded time of the clock before; 0: unknown
--   fences       about how many fences are kept here; -1: unknown
--   length       the average length of their keys in bytes
--   memory       the memory limit in bytes; 0: no limit
-- or the error reply of a command that the server rejected, or one that begins with UNSUPPORTED: INFO lacks
-- a required field.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- One section at a time: Redis 6.2 does not accept two.
local replication = redis.call('INFO', 'replication')
local role = string.match(replication, 'role:(%S+)')
if role and role ~= 'master' then
    return redis.error_reply('READONLY this node is a replica')
end
-- Every event that may have removed a key changes the incarnation. A restart changes the run id, a change of
-- role the replication id. The other counters are appended only if they are not 0.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local data = string.match(replication, 'master_replid:(%x+)')
if not (role and run and data) then
    local missing = not role and 'role' or not run and 'run_id' or 'master_replid'
    return redis.error_reply('UNSUPPORTED cannot tell a restart: INFO shows no ' .. missing)
end
local incarnation = run .. ':' .. data
-- Keys may have been evicted between two readings. They are lost, as after a restart.
local evicted = string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)')
if evicted and evicted ~= '0' then
    incarnation = incarnation .. ':' .. evicted
end
-- Data with an older marker may have replaced the data: swapped in, or restored after a flush.
local commandstats, replacements = redis.call('INFO', 'commandstats'), 0
for _, command in ipairs({'swapdb', 'flushall'}) do
    replacements = replacements + (string.match(commandstats, 'cmdstat_' .. command .. ':calls=(%d+)') or 0)
end
if replacements > 0 then
    incarnation = string.format('%s:s%d', incarnation, replacements)
end
-- While the node evicts, its incarnation differs from the one afterwards: CONFIG RESETSTAT resets the
-- evicted_keys counter.
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
    -- A server that is out of memory rejects a script's first write unless it frees memory, as DEL does. The
    -- marker of a node that evicts must not stay unchanged.
    redis.call('DEL', KEYS[1])
    redis.call('SET', KEYS[1], marker)
end

-- Without a fence, numbers continue from the clock, so a clock that was set back must be detected. If the
-- server rejects these commands, only that detection is lost.
local latest = tonumber(redis.pcall('GET', KEYS[2])) or 0
-- Infinity modulo 1 is not 0 either. This library writes no number above 2^53 - 2^40.
if latest % 1 ~= 0 or latest < 0 or latest > 9006099743113216 then
    latest = 0
end
local max_ttl = string.match(marker, '^quorlock3 %x+ %d+ %d+ (%d+)')
-- Record the clock four times per max TTL: often enough for the detection, and rarely enough for the disk.
if max_ttl and now > latest + max_ttl * 250 then
    redis.pcall('SET', KEYS[2], string.format('%.0f', now))
end

-- Estimate the share of fences from one page of keys, if the user may run SCAN and DBSIZE.
local page, key_count = redis.pcall('SCAN', '0', 'COUNT', '50')[2], redis.pcall('DBSIZE')
local fences, length = -1, 0
if page and type(key_count) == 'number' then
    fences = 0
    for _, key in ipairs(page) do
        if string.sub(key, 1, 15) == 'quorlock:fence:' then
            fences, length = fences + 1, length + #key
        end
    end
    if fences > 0 then
        length = math.floor(length / fences)
        fences = math.ceil(fences / #page * key_count)
    end
end
return {marker, incarnation, evicts and 1 or 0, now, latest, fences, length, limit}
