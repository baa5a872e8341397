-- Returns the node's marker and record, and the server's incarnation. Records the node's clock.
-- Before, writes a new marker and record, or new absence reports, if requested.
--
-- KEYS[1]  the node's marker
-- KEYS[2]  the last recorded time of the node's clock, in microseconds
-- KEYS[3]  the node's record, of which the marker contains the hash
-- KEYS[4]  the absence reports
-- KEYS[5]  the largest number given out here that was then over 250 ms ahead of the clock
-- ARGV[1]  m: write marker and record; a: write absence reports; empty: write nothing
-- ARGV[2]  the marker, or the reports, that the new text may replace; empty for none
-- ARGV[3]  a: the new reports
--          m: the incarnation that the server must have; empty for any
-- ARGV[4]  the start of the new marker, before incarnation and time
-- ARGV[5]  the new record
-- ARGV[6]  the new marker's time in microseconds
-- ARGV[7]  1 if ARGV[6] counts from now, 0 if it is a time
-- ARGV[8]  two numbers: the clock of the client that began the probation in microseconds, 0 if no data can be
--          lost; and the base of all fencing numbers
--
-- Returns  {marker, incarnation, evicts, now, latest, record, high, absences, fences, length, memory}
--   marker       empty if there is none, and no valid marker if the key has another type
--   incarnation  see below
--   evicts       1 if keys are evicted when memory is full
--   now          the node's clock in microseconds
--   latest       the last recorded time of the clock before; 0: unknown
--   record       empty if there is none
--   high         the number in KEYS[5]; 0 if there is none
--   absences     empty if there are none
--   fences       about how many fences are kept here; -1: unknown
--   length       the average length of their keys in bytes
--   memory       the memory limit in bytes; 0: no limit
-- or the error reply of a command that the server rejected, or UNSUPPORTED and the fields that INFO lacks.

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
local server = redis.call('INFO', 'server')
local run, data = string.match(server, 'run_id:(%x+)'), string.match(replication, 'master_replid:(%x+)')
local is_dragonfly = string.find(server, 'dragonfly_version:', 1, true)
local is_garnet = string.find(server, 'garnet_version:', 1, true)
-- The id of Garnet is 0. Outside a cluster, its role never changes. Elsewhere, 0 would hide a change of role.
if data and not is_garnet and not string.find(data, '[^0]') then
    data = nil
end
-- The commands that replace data without a trace in the ids.
local replacing, commandstats, log = {'swapdb', 'flushall'}, nil, true
if is_dragonfly and data then
    -- Dragonfly draws its replication id at each start and keeps it when its role changes. So this id is the run
    -- id, and the commands that change the role or load a snapshot are counted.
    run, data = run or data, 'p' .. (string.match(server, 'process_id:(%d+)') or '')
    replacing = {'swapdb', 'flushall', 'replicaof', 'slaveof', 'addreplicaof', 'repltakeover', 'dfly'}
    commandstats = string.lower(redis.call('INFO', 'commandstats'))
elseif is_garnet then
    -- When its memory is full, Garnet drops the oldest keys, without a policy that INFO shows. Then these addresses of
    -- its log move, and after a flush. It counts commands if configured to, and its first versions cannot.
    log = nil
    for first, head in string.gmatch(redis.call('INFO', 'store'), 'Log%.BeginAddress:(%d+).-Log%.HeadAddress:(%d+)') do
        log = string.format('%s:%s-%s', log or '', first, head)
    end
    data = data and data .. (log or '')
    commandstats = redis.pcall('INFO', 'commandstats')
    commandstats = type(commandstats) == 'string' and commandstats or ''
end
if not (role and run and data and log) then
    local missing, fields = {}, {{role, 'role'}, {run, 'run_id'}, {data, 'master_replid'}, {log, 'Log.HeadAddress'}}
    for _, field in ipairs(fields) do
        missing[#missing + 1] = not field[1] and field[2] or nil
    end
    return redis.error_reply('UNSUPPORTED ' .. table.concat(missing, ', '))
end
local incarnation = run .. ':' .. data
-- Keys may have been evicted between two readings. They are lost, as after a restart.
local evicted = string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)')
if evicted and evicted ~= '0' then
    incarnation = incarnation .. ':' .. evicted
end
-- Data with an older marker may have replaced the data: swapped in, or restored after a flush.
commandstats = commandstats or redis.call('INFO', 'commandstats')
local replacements = 0
for _, command in ipairs(replacing) do
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
local record, absences = redis.pcall('GET', KEYS[3]), redis.pcall('GET', KEYS[4])
record, absences = type(record) == 'string' and record or '', type(absences) == 'string' and absences or ''
if ARGV[1] == 'm' and marker == ARGV[2] and (ARGV[3] == '' or incarnation == ARGV[3]) then
    local at = ARGV[6] + (ARGV[7] == '1' and now or 0)
    marker, record = string.format('%s %s %.0f %s', ARGV[4], incarnation, at, ARGV[8]), ARGV[5]
    -- A server that is out of memory rejects a script's first write unless it frees memory, as DEL does. The
    -- marker of a node that evicts must not stay unchanged.
    redis.call('DEL', KEYS[1])
    redis.call('SET', KEYS[1], marker)
    redis.call('SET', KEYS[3], record)
elseif ARGV[1] == 'a' and absences == ARGV[2] then
    -- If the server rejects it, only a later wait becomes longer.
    local reply = redis.pcall('SET', KEYS[4], ARGV[3])
    absences = reply.err and absences or ARGV[3]
end

-- The largest safe integer and infinity are not numbers of this library, which writes none above 2^53 - 2^40.
-- Infinity modulo 1 is not 0 either.
local function number(key)
    local value = tonumber(redis.pcall('GET', key)) or 0
    return (value % 1 == 0 and value >= 0 and value <= 9006099743113216) and value or 0
end

-- Without a fence, numbers continue from the clock, so a clock that was set back must be detected. If the
-- server rejects these commands, only that detection is lost.
local latest = number(KEYS[2])
local max_ttl = string.match(marker, '^quorlock4 (%d+) ')
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
return {marker, incarnation, evicts and 1 or 0, now, latest, record, number(KEYS[5]), absences, fences, length, limit}
