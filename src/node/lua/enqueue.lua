-- Puts a process in line for a key that another holds. If nobody does, the first in line may try: whoever comes by calls it.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  its line: the processes that wait for it here
-- ARGV[1]  our name in lines
-- ARGV[2]  for how long we have waited, in microseconds
-- ARGV[3]  for how long a line lasts that nobody renews, in milliseconds
-- ARGV[4]  for how long one who was called has the key to itself, in microseconds
--
-- Returns  {1, left, now}  we stand in line; the key is another's for so many milliseconds (-1 for ever), or one who was
--                          called may have it for so long; now in microseconds
--          {0, 0, now}     it is free, and we are the next
-- or the error reply of a command that the server refused.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local left = redis.call('PTTL', KEYS[1])
local is_free = left == -2
local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local called = is_free and head[1] and head[1] ~= ARGV[1] and tonumber(head[2])
-- A clock that was set back leaves nobody called for long.
local ago = called and called < 0 and now + called
if ago and ago >= 0 and ago <= tonumber(ARGV[4]) then
    left = math.ceil((tonumber(ARGV[4]) - ago) / 1000)
    is_free = false
end
local place = redis.call('ZSCORE', KEYS[2], ARGV[1])
local was_called = place and tonumber(place) < 0
if not place or was_called and not is_free then
    redis.call('ZADD', KEYS[2], now - tonumber(ARGV[2]), ARGV[1])
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
if is_free then
    if was_called or notify_next(ARGV[1], true) ~= 1 then
        -- As if called, so that whoever asks next gives us the time to take it.
        redis.call('ZADD', KEYS[2], -now, ARGV[1])
        redis.call('PEXPIRE', KEYS[2], ARGV[3])
        return {0, 0, now}
    end
    left = math.ceil(tonumber(ARGV[4]) / 1000)
end
return {1, left, now}
