-- Adds a process to the wait queue of a held key. If the key is free, the first waiter is notified.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  its wait queue on this node: a sorted set of processes
-- ARGV[1]  the process's name in wait queues
-- ARGV[2]  for how long the process has waited, in microseconds
-- ARGV[3]  the wait queue's time to live without a renewal, in milliseconds
-- ARGV[4]  for how long a free key is reserved for a notified waiter, in microseconds
--
-- Returns  {1, left, now}  enqueued; the key is held, or reserved for a notified waiter, for this many
--                          milliseconds (-1: forever); now in microseconds
--          {0, 0, now}     the key is free, and this process is the next
-- or the error reply of a command that the server rejected.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local left = redis.call('PTTL', KEYS[1])
local is_free = left == -2
local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local notified_at = is_free and head[1] and head[1] ~= ARGV[1] and tonumber(head[2])
-- A clock that was set back does not prolong a reservation.
local since_notified = notified_at and notified_at < 0 and now + notified_at
if since_notified and since_notified >= 0 and since_notified <= tonumber(ARGV[4]) then
    left = math.ceil((tonumber(ARGV[4]) - since_notified) / 1000)
    is_free = false
end
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
local was_notified = score and tonumber(score) < 0
if not score or was_notified and not is_free then
    redis.call('ZADD', KEYS[2], now - tonumber(ARGV[2]), ARGV[1])
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
if is_free then
    if was_notified or notify_next(ARGV[1], true) ~= 1 then
        -- Record this process as notified: for ARGV[4], enqueues of other processes then find the key
        -- reserved.
        redis.call('ZADD', KEYS[2], -now, ARGV[1])
        redis.call('PEXPIRE', KEYS[2], ARGV[3])
        return {0, 0, now}
    end
    left = math.ceil(tonumber(ARGV[4]) / 1000)
end
return {1, left, now}
