-- Records the outcome of a request for its key, or for all keys of its project.
-- KEYS: 1 cool-downs by project, 2 disabled keys, 3 last errors
-- ARGV: 1 id of the key, 2 'success', 'failure', 'cool down' or 'disabled', 3 error, 4 project of the key,
--       5 for 'cool down' the end of the cool-down in ms; for 'success' now in ms
local id, outcome, problem, project = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local cools_until = tonumber(redis.call('HGET', KEYS[1], project)) or 0

if outcome == 'success' then
  -- This answer may belong to an older request. While the key cools down or is disabled, the error must stay visible.
  if cools_until <= tonumber(ARGV[5]) and redis.call('HEXISTS', KEYS[2], id) == 0 then
    redis.call('HDEL', KEYS[3], id)
  end
  return
end
redis.call('HSET', KEYS[3], id, problem)
if outcome == 'cool down' then
  local ends = math.max(cools_until, tonumber(ARGV[5]))
  redis.call('HSET', KEYS[1], project, string.format('%.0f', ends))
elseif outcome == 'disabled' then
  redis.call('HSETNX', KEYS[2], id, problem)
end
