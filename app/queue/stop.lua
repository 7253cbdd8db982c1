-- A worker has stopped a job that was asked to cancel: 1, or 0 when it does not hold such a job.
local worker, id = unpack(ARGV)
local owner, cancel, status, by = fields(id, 'owner', 'cancel', 'status', 'by')
if owner ~= worker then return (status == S.CANCELED and by == worker) and 1 or 0 end
if not cancel then return 0 end
close(id, S.CANCELED)
return 1
