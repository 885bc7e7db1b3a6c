-- Grants one request to the current key, or to the next key that may be used.
-- KEYS: 1 requests of the day by scope, 2 cool-downs by project, 3 disabled keys, 4 current key, 5 log of rotations,
--       6 throttled key: if it is the current one, this request begins with the key after it
-- ARGV: 1 now in ms, 2 end of the quota day in ms, 3 daily limit of a key and of a project, 4 rotations to keep,
--       5 ms to keep the counters of the day, then the id and the project of each key
-- Returns {'granted', id}, {'exhausted', ms when the next key may be used, or -1 if all keys are disabled},
-- or {'counters missing'} if the counters of the day must be restored first.
local now, day_ends, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

if redis.call('HEXISTS', KEYS[1], 'restored') == 0 then
  return {'counters missing'}
end

local function get_number(hash, field)
  return tonumber(redis.call('HGET', hash, field)) or 0
end

-- Returns the reason why a key may not be used, and when it may be used: -1 if an operator must reset it.
local function find_refusal(id, project)
  if redis.call('HEXISTS', KEYS[3], id) == 1 then
    return 'disabled', -1
  end
  local cools_until = get_number(KEYS[2], project)
  if get_number(KEYS[1], 'key:' .. id) >= limit or get_number(KEYS[1], 'project:' .. project) >= limit then
    return 'exhausted', math.max(day_ends, cools_until)
  end
  if cools_until > now then
    return 'cooling down', cools_until
  end
end

local ids, projects, first, rotation_reason = {}, {}, 1, 'removed'
local current, throttled = redis.call('GET', KEYS[4]), redis.call('GET', KEYS[6])
for index = 6, #ARGV, 2 do
  ids[#ids + 1], projects[#projects + 1] = ARGV[index], ARGV[index + 1]
  if ARGV[index] == current then
    first = #ids
    if current == throttled then
      first, rotation_reason = first + 1, 'throttled'
    end
  end
end

local next_ready = -1
for step = 0, #ids - 1 do
  local index = (first - 1 + step) % #ids + 1
  local id, project = ids[index], projects[index]
  local reason, ready = find_refusal(id, project)
  if id == current then
    rotation_reason = reason
  end
  if not reason then
    if id ~= current then
      redis.call('SET', KEYS[4], id)
      if current then
        local rotation = {at = now, from = current, to = id, reason = rotation_reason}
        redis.call('LPUSH', KEYS[5], cjson.encode(rotation))
        redis.call('LTRIM', KEYS[5], 0, tonumber(ARGV[4]) - 1)
      end
    end
    redis.call('DEL', KEYS[6])
    redis.call('HINCRBY', KEYS[1], 'project:' .. project, 1)
    redis.call('HINCRBY', KEYS[1], 'key:' .. id, 1)
    redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[5]))
    return {'granted', id}
  end
  if ready >= 0 and (next_ready < 0 or ready < next_ready) then
    next_ready = ready
  end
end
return {'exhausted', next_ready}
