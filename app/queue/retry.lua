-- An ended job into the line again, with its full number of attempts: {'ok'} | {'open'} | {'none'} | {'full', s}
-- `attempt` counts on, so that what an older attempt stored is never overwritten.
local id = ARGV[1]
local status, client, model, share, attempt, letter = fields(id, 'status', 'client', 'model', 'share', 'attempt', 'letter')
if not status then return { 'none' } end
if not ENDED[status] then return { 'open' } end
if open_jobs() >= MAX_QUEUED then return { 'full', retry_after_s() } end
if letter then redis.call('XDEL', DEAD, letter) end
redis.call('HDEL', JOB .. id, 'by', 'started', 'completed', 'expires', 'progress', 'result', 'error', 'letter')
redis.call('HSET', JOB .. id, 'max', attempt + MAX_ATTEMPTS, 'score', fair_score(client, model, tonumber(share)))
redis.call('ZREM', EXPIRY, id)
redis.call('HINCRBY', CLIENTS, client, 1)
move(id, status, S.QUEUED)
stand_in_line(id)
tell(id, 'queued')
return { 'ok' }
