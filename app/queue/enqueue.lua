-- A new job into the line: {'created', now} | {'known', id} | {'conflict', id} | {'full', seconds}
local id, digest, idempotency, model, group, client, rows, share, resolved, input, tags, metadata = unpack(ARGV)

local first = idempotency ~= '' and redis.call('GET', IDEMPOTENCY .. idempotency) or id
local before = fields(first, 'digest')
if before then return { before == digest and 'known' or 'conflict', first } end
if open_jobs() >= MAX_QUEUED then return { 'full', retry_after_s() } end

redis.call('HSET', JOB .. id, 'status', S.QUEUED, 'model', model, 'group', group, 'client', client, 'rows', rows,
  'share', share, 'score', fair_score(client, model, tonumber(share)), 'resolved', resolved, 'input', input,
  'digest', digest, 'created', now, 'attempt', 0, 'max', MAX_ATTEMPTS)
if idempotency ~= '' then
  redis.call('SET', IDEMPOTENCY .. idempotency, id, 'PX', IDEMPOTENCY_TTL_MS)
  redis.call('HSET', JOB .. id, 'idempotency', IDEMPOTENCY .. idempotency)
end
if metadata ~= '{}' then redis.call('HSET', JOB .. id, 'metadata', metadata) end
if tags ~= '[]' then
  redis.call('HSET', JOB .. id, 'tags', tags)
  for _, tag in ipairs(cjson.decode(tags)) do redis.call('ZADD', TAG .. tag, now_us, id) end
end
redis.call('ZADD', INDEX, now_us, id)
redis.call('ZADD', STATUS .. S.QUEUED, now_us, id)
redis.call('HINCRBY', CLIENTS, client, 1)
stand_in_line(id)
tell(id, 'queued')
return { 'created', now }
