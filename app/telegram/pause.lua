-- Pauses all messages to a chat, as Telegram has asked. If Telegram asks the same for a second chat meanwhile, it means
-- the bot, and all chats are paused. A pause does not shorten a longer one.
-- KEYS: 1 the bot's pause, 2 the chat that was paused last, 3 the chat's pause (missing: pause the bot)
-- ARGV: 1 ms to pause, 2 the chat
-- Returns 1 if the bot is paused, otherwise 0.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local pause = math.max(tonumber(ARGV[1]), 1)

local function extend(key)
  local until_ms = math.max(now + pause, tonumber(redis.call('GET', key)) or 0)
  redis.call('SET', key, until_ms, 'PX', until_ms - now)
end

if not KEYS[3] then
  extend(KEYS[1])
  return 1
end
extend(KEYS[3])
local other = redis.call('GET', KEYS[2])
if other and other ~= ARGV[2] then
  extend(KEYS[1])
  return 1
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', math.max(pause, redis.call('PTTL', KEYS[2])))
return 0
