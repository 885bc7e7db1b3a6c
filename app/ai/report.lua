-- Takes the outcome of a request: what it means for its key, or for all keys of its project.
-- KEYS: 1 rests by project, 2 keys set aside, 3 last errors
-- ARGV: 1 the key's id, 2 'ok', 'failed', 'rest' or 'set aside', 3 the error, 4 the key's project, 5 ms until when it
--       rests; for 'ok', 5 is now
local id, outcome, problem = ARGV[1], ARGV[2], ARGV[3]

if outcome == 'ok' then
  -- What a key rests for, or is set aside for, is still the case after an answer that was on its way.
  local rest = tonumber(redis.call('HGET', KEYS[1], ARGV[4])) or 0
  if rest <= tonumber(ARGV[5]) and redis.call('HEXISTS', KEYS[2], id) == 0 then
    redis.call('HDEL', KEYS[3], id)
  end
  return
end
redis.call('HSET', KEYS[3], id, problem)
if outcome == 'rest' then
  local ends = math.max(tonumber(redis.call('HGET', KEYS[1], ARGV[4])) or 0, tonumber(ARGV[5]))
  redis.call('HSET', KEYS[1], ARGV[4], string.format('%.0f', ends))
elseif outcome == 'set aside' then
  redis.call('HSETNX', KEYS[2], id, problem)
end
