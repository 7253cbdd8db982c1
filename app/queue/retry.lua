-- An ended job into the line again, with its full number of attempts:
-- {'ok'} | {'open'} | {'none'} | {'full', seconds, of what} | {'limited', what, seconds}
-- `attempt` counts on, so that what an older attempt stored is never overwritten.
local id = ARGV[1]
local status, client, priority, model, share, attempt, letter, account =
  fields(id, 'status', 'client', 'priority', 'model', 'share', 'attempt', 'letter', 'account')
if not status then return { 'none' } end
if not ENDED[status] then return { 'open' } end
local over = refusal(model, client, account, ARGV[2], 1)
if over then return over end
if letter then redis.call('XDEL', DEAD, letter) end
redis.call('HDEL', JOB .. id, 'by', 'started', 'completed', 'expires', 'progress', 'result', 'error', 'letter', 'deadline',
  'tries')
redis.call('HSET', JOB .. id, 'status', S.QUEUED, 'max', attempt + MAX_ATTEMPTS, 'score', fair_score(client, priority, model, tonumber(share)))
redis.call('ZREM', EXPIRY, id)
redis.call('ZREM', WEBHOOKS, id)
count_open(model, client, account, 1)
move(id, status, S.QUEUED, model, priority)
stand_in_line_again(id)
tell(id, 'queued')
return { 'ok' }
