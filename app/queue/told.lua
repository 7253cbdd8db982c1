-- What came of a try: into the log, and when to try again ('' for never).
local id, delivery, pause_ms = unpack(ARGV)
if not fields(id, 'status') then return end
redis.call('RPUSH', DELIVERIES .. id, delivery)
redis.call('LTRIM', DELIVERIES .. id, -50, -1)
if pause_ms == '' then
  redis.call('ZREM', WEBHOOKS, id)
else
  redis.call('ZADD', WEBHOOKS, 'XX', now + pause_ms, id)
end
