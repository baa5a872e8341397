-- Deletes a key of any owner, or of one owner only, and raises the fence above its holder's number.
--
-- A holder that lives takes a missing key again at its next renewal, unless a larger number was given out since. So the
-- fence becomes one that was given now, also where there was none. Where it cannot be raised, the key is deleted all the
-- same. Waiters are notified after all nodes have replied: a waiter notified sooner may have its new key deleted.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the largest number here, of any key, that was ahead of the clock when it was given
-- ARGV[1]  for how long the fence is kept, in milliseconds; 0 for a plain lock, whose fence is left alone
-- ARGV[2]  the hash of the owner's token, as an inspection shows it: only this owner's key is deleted. Empty for any
--
-- Returns   1  a key was there and is gone
--           0  no key was there
--          -1  a key is there, of another owner or of another type: nothing was done
-- or the error reply of a command that the server refused; the key may stand then.

-- FNV-1a of the first 256 bytes, which is all that an inspection tells, in two halves of 32 bits; then folded into one.
local function hash(value)
    local high, low = 0xcbf29ce4, 0x84222325
    for place = 1, math.min(#value, 256) do
        low = low - low % 256 + bit.bxor(low % 256, string.byte(value, place))
        -- Times 2^40 + 0x1b3. No step has more than 53 bits.
        local product = low * 0x1b3
        high = (high * 0x1b3 + math.floor(product / 4294967296) + low * 256) % 4294967296
        low = product % 4294967296
    end
    return bit.tohex(bit.bxor(high, low))
end

if ARGV[2] ~= '' then
    local value = redis.pcall('GET', KEYS[1])
    if value == false then
        return 0
    end
    if type(value) == 'table' then
        -- Only the wrong type says whose the key is. A missing right or a loading server says nothing about it.
        if value.err and string.find(value.err, 'WRONGTYPE', 1, true) then
            return -1
        end
        return value
    end
    if hash(value) ~= ARGV[2] then
        return -1
    end
end

-- pcall hands a refusal on with its own code in front (6.2 buries it when the script itself fails). It is the first
-- write: a server that is out of memory refuses a script's first write unless that frees some.
local done = redis.pcall('DEL', KEYS[1])
if type(done) ~= 'number' or ARGV[1] == '0' then
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
