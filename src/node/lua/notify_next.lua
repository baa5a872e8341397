-- How the process that has waited longest is called. Stands in front of the scripts that do it.
--
-- A line is a sorted set. Who waits has the time since when as its score, in microseconds of this node's clock; who was
-- called, the time of that as a negative one, until the key changes hands again.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  its line: the processes that wait for it here
-- ARGV     nothing
--
-- Returns  1 if a process was called, 0 if none waits. A call begins with 0 if nobody else wants the key, 1 if others do,
--          2 if it was not given up but found free; then the caller itself may be the next, and hears so by a 2.
-- It only advises, so it fails nothing: what the server refuses here leaves those who wait to their own clocks.

local function notify_next(caller, is_found)
    while true do
        local line = redis.pcall('ZRANGE', KEYS[2], 0, 1, 'WITHSCORES')
        local head = line[1]
        if not head then
            return 0
        end
        if tonumber(line[2]) > 0 then
            if is_found and head == caller then
                return 2
            end
            -- One who calls itself with nobody behind it is alone.
            local word = is_found and '2 ' or (line[3] or head ~= caller) and '1 ' or '0 '
            local heard = redis.pcall('PUBLISH', 'quorlock:waiters:' .. head, word .. KEYS[1])
            if type(heard) == 'table' then
                return 0
            end
            if heard > 0 then
                local time = redis.call('TIME')
                redis.pcall('ZADD', KEYS[2], -(time[1] * 1000000 + time[2]), head)
                return 1
            end
        end
        -- Called before, or gone without a word.
        local gone = redis.pcall('ZREM', KEYS[2], head)
        if type(gone) == 'table' then
            return 0
        end
    end
end

