-- Notifies the process that has waited longest for a key. Prepended to the scripts that call it.
--
-- The caller is the process that runs the script, or empty. is_from_waiter: a waiter found the key free, so
-- there is no release.
--
-- A waiter's score is the start of its wait, in microseconds of this node's clock. After a notification, the
-- score is the negated time of the notification, until the key changes hands again.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  its wait queue on this node: a sorted set of processes
-- ARGV     none
--
-- Returns  1  a process was notified
--          0  no process waits
--          2  a waiter found the key free and is itself the next
-- A message begins with 0 if no other process waits, 1 if others do, 2 if a waiter found the key free. A
-- notification is advisory, so an error of the server fails no script: waiters then retry by their own
-- timers.

local function notify_next(caller, is_from_waiter)
    while true do
        local queue = redis.pcall('ZRANGE', KEYS[2], 0, 1, 'WITHSCORES')
        local head = queue[1]
        if not head then
            return 0
        end
        if tonumber(queue[2]) > 0 then
            if is_from_waiter and head == caller then
                return 2
            end
            -- A process that notifies itself with no waiter behind it is alone.
            local prefix = is_from_waiter and '2 ' or (queue[3] or head ~= caller) and '1 ' or '0 '
            local receivers = redis.pcall('PUBLISH', 'quorlock:waiters:' .. head, prefix .. KEYS[1])
            if type(receivers) == 'table' then
                return 0
            end
            if receivers > 0 then
                local time = redis.call('TIME')
                redis.pcall('ZADD', KEYS[2], -(time[1] * 1000000 + time[2]), head)
                return 1
            end
        end
        -- The head was notified before, or is disconnected.
        local reply = redis.pcall('ZREM', KEYS[2], head)
        if type(reply) == 'table' then
            return 0
        end
    end
end

