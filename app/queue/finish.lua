-- Hand in a result: 1, or 0 when it is not wanted. The owner is the fence; sent twice it answers the same.
local worker, id, result = unpack(ARGV)
local owner, cancel, status, by = fields(id, 'owner', 'cancel', 'status', 'by')
if owner ~= worker then return (status == S.SUCCEEDED and by == worker) and 1 or 0 end
if cancel then
  close(id, S.CANCELED)
  return 0
end
close(id, S.SUCCEEDED, nil, 'result', result)
return 1
