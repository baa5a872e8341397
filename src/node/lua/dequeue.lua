-- Removes a process from a wait queue and may notify the next process.
--
-- The next process is notified if the removed one had been, or if the key is free and no waiter has been
-- notified.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  its wait queue on this node: a sorted set of processes
-- ARGV[1]  the process's name in wait queues
--
-- Returns   1  a waiter was notified
--           0  no waiter was notified
-- or the error reply of a command that the server rejected.

local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
-- An unused notification goes to the next waiter whatever value the key has here: another client's key on
-- this node alone does not prove that the lock is held.
if not score or tonumber(score) > 0 then
    if redis.call('PTTL', KEYS[1]) ~= -2 then
        return 0
    end
    local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
    if not head[1] or tonumber(head[2]) < 0 then
        return 0
    end
end
return notify_next('', false)
