-- Grants one message to a chat a slot, or returns how long it must wait.
-- KEYS: 1 the bot's next free slot, 2 the bot's pause, 3 the chat's next free slot, 4 the chat's pause,
--       5 the slots of a group within the last minute, 6 how late messages are at present
-- ARGV: 1 messages of the bot in a second, 2 messages of a group in a minute (0: no group),
--       3 ms that the caller needs before it can send, 4 the longest wait for a slot in ms,
--       5 ms by which a message of the caller was late, 6 ms by which each message may always be late,
--       7 ms for which a lateness is remembered
-- Returns {1, ms until the slot} or {0, ms after which to try again}.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local bot_size, group_size = tonumber(ARGV[1]), tonumber(ARGV[2])

local function at(key)
  return tonumber(redis.call('GET', key)) or 0
end

-- A message that is late by L meets the messages of L later slots. So all periods are longer by L.
local late, reported = at(KEYS[6]), tonumber(ARGV[5])
if reported > tonumber(ARGV[6]) and reported >= late then
  late = reported
  redis.call('SET', KEYS[6], late, 'PX', ARGV[7])
end
late = math.max(late, tonumber(ARGV[6]))
local second, minute = 1000 + late, 60000 + late

local ready = math.max(at(KEYS[2]), at(KEYS[3]), at(KEYS[4]))
if group_size > 0 then
  local oldest = tonumber(redis.call('LINDEX', KEYS[5], group_size - 1))
  if oldest then
    ready = math.max(ready, oldest + minute)
  end
end
if ready > now then
  return {0, ready - now}
end

local slot = math.max(now + tonumber(ARGV[3]), at(KEYS[1]))
if slot - now > tonumber(ARGV[4]) then
  return {0, slot - now}
end
local bot_next, chat_next = slot + math.ceil(second / bot_size), slot + second
redis.call('SET', KEYS[1], bot_next, 'PX', bot_next - now + 1000)
redis.call('SET', KEYS[3], chat_next, 'PX', chat_next - now + 1000)
if group_size > 0 then
  redis.call('LPUSH', KEYS[5], slot)
  redis.call('LTRIM', KEYS[5], 0, group_size - 1)
  redis.call('PEXPIRE', KEYS[5], slot - now + minute + 1000)
end
return {1, slot - now}
