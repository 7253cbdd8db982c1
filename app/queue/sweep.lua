-- What falls due with nobody asking: leases, delays, records whose time is over. The number of leases.
local taken = take_back(256)
expire(256)
wake(256)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', EXPIRY, '-inf', now, 'LIMIT', 0, 256)) do forget(id) end
return taken
