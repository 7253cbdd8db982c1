-- Lease jobs of the best group of these models, worth up to `room` rows, at least one job. The first `loaded` of
-- the models are at hand; the others' turn comes when those have nothing, or when a job has waited SWAP_MS.
-- {ms until something falls due or -1, {id, attempt, resolved, created, now, traceparent}, ...}
local worker, room, loaded = ARGV[1], math.floor(ARGV[2]), tonumber(ARGV[3])

take_back(16)
expire(64)
wake(64)

local function due_ms()
  local due = -1
  for _, key in ipairs({ LEASES, DELAYED }) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] then
      local left = math.max(1, first[2] - now)
      if due < 0 or left < due then due = left end
    end
  end
  return due
end

local function has_waited(model, group)
  local first = redis.call('ZRANGE', WAITING .. model .. ':' .. group, 0, 0)[1]
  return first ~= nil and now - fields(first, 'created') >= SWAP_MS
end

-- The groups of all these models, best first; a bell with nothing behind it is silenced.
local function best_groups()
  local found = {}
  for i = 4, #ARGV do
    local heads = redis.call('ZRANGE', GROUPS .. ARGV[i], 0, 7, 'WITHSCORES')
    if #heads == 0 then redis.call('DEL', BELL .. ARGV[i]) end
    local near = i - 3 <= loaded or (#heads > 0 and has_waited(ARGV[i], heads[1]))
    for k = 1, #heads, 2 do
      found[#found + 1] = { model = ARGV[i], name = heads[k], score = tonumber(heads[k + 1]), near = near }
    end
  end
  table.sort(found, function(a, b)
    if a.near ~= b.near then return a.near end
    return a.score < b.score
  end)
  return found
end

-- A suspect (`alone:<id>`) runs only on a worker that holds nothing. The first worker to meet one while it
-- holds others takes no more until it is empty (nil); the other workers pass it by.
local function choose()
  if redis.call('HEXISTS', ALONE, worker) == 1 then return nil end
  local busy = redis.call('HEXISTS', HELD, worker) == 1
  for _, group in ipairs(best_groups()) do
    local suspect = group.name:match('^alone:(.*)')
    if not suspect or not busy then return group, suspect end
    local key = RESERVED .. suspect
    if redis.call('SET', key, worker, 'NX', 'PX', LEASE_MS) or redis.call('GET', key) == worker then
      redis.call('PEXPIRE', key, LEASE_MS)
      return nil
    end
  end
end

local group, suspect = choose()
if not group then return { due_ms() } end

local line, rows_taken, taken, leases, started, out = WAITING .. group.model .. ':' .. group.name, 0, {}, {}, {}, { -1 }
for _, id in ipairs(redis.call('ZRANGE', line, 0, math.max(0, room - 1))) do
  local rows, priority, resolved, created, attempt, seq, deadline, traceparent =
    fields(id, 'rows', 'priority', 'resolved', 'created', 'attempt', 'seq', 'deadline', 'traceparent')
  if rows_taken > 0 and rows_taken + rows > room then break end
  rows_taken = rows_taken + rows
  attempt, seq = attempt + 1, seq + 1
  if deadline then redis.call('ZREM', DEADLINES, id) end
  redis.call('HSET', JOB .. id, 'status', S.STARTING, 'owner', worker, 'started', now, 'attempt', attempt, 'seq', seq)
  redis.call('ZREM', LINE .. priority .. ':' .. group.model, id)
  hint(id, seq, 'start', '{"attempt":' .. attempt .. '}')
  taken[#taken + 1] = id
  leases[#leases + 1], leases[#leases + 2] = now + LEASE_MS, id
  started[#started + 1], started[#started + 2] = redis.call('ZSCORE', STATUS .. S.QUEUED, id), id
  out[#out + 1] = { id, attempt, resolved, created, now, traceparent or '' }
end
redis.call('ZREM', line, unpack(taken))
redis.call('ZADD', LEASES, unpack(leases))
redis.call('ZREM', STATUS .. S.QUEUED, unpack(taken))
redis.call('ZADD', STATUS .. S.STARTING, unpack(started))
redis.call('HINCRBY', HELD, worker, #taken)
rank(group.model, group.name)
if suspect then redis.call('HSET', ALONE, worker, suspect) end
if group.score > tonumber(redis.call('GET', CLOCK) or 0) then redis.call('SET', CLOCK, group.score) end
return out
