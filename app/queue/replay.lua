-- Tell of an ended job once more, with all tries before it: 'ok' | 'open' | 'none'
local id = ARGV[1]
local status, webhook = fields(id, 'status', 'webhook')
if not webhook then return 'none' end
if not ENDED[status] then return 'open' end
redis.call('HDEL', JOB .. id, 'tries')
redis.call('ZADD', WEBHOOKS, now, id)
return 'ok'
