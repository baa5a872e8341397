-- Deletes a key whoever has it, and makes its holder's number a smaller one.
--
-- A holder that lives takes a missing key again at its next renewal, unless a larger number was given out since. So the
-- fence becomes one that was given now, also where there was none. Where it cannot be raised, the key is deleted all the
-- same. Those who wait are called when all nodes have answered: one who is called sooner may have the next key deleted.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the largest number here, of any key, that was ahead of the clock when it was given
-- ARGV[1]  for how long the fence is kept, in milliseconds
--
-- Returns   1  a key was there and is gone
--           0  no key was there
-- or the error reply of a command that the server refused; the key may stand then.

-- pcall hands a refusal on with its own code in front (6.2 buries it when the script itself fails). It comes first: a
-- server that is out of memory refuses a script's first write unless that frees some.
local done = redis.pcall('DEL', KEYS[1])
if type(done) ~= 'number' then
    return done
end
local fence = redis.pcall('GET', KEYS[2])
local number = not fence and 0 or type(fence) == 'string' and tonumber(fence)
-- A fence that is no number, or has no number left, was not made by us. An infinity modulo 1 is not 0 either.
if number and number % 1 == 0 and number < 9007199254740991 then
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    number = math.max(number + 1, now)
    redis.pcall('SET', KEYS[2], string.format('%.0f', number), 'PX', ARGV[1])
    if number > now + 250000 and number > (tonumber(redis.pcall('GET', KEYS[3])) or 0) then
        redis.pcall('SET', KEYS[3], string.format('%.0f', number))
    end
end
return done
