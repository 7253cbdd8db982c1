-- Forget a job that waits or has ended: 'ok' | 'none' | 'running'
local id = ARGV[1]
local status = fields(id, 'status')
if not status then return 'none' end
if RUNNING[status] then return 'running' end
if status == S.QUEUED then
  leave_line(id)
  close(id, S.CANCELED)
end
forget(id)
return 'ok'
