-- Sends METHOD to PREFIX0 .. PREFIX<IDS-1> in a fixed pseudo-random order, or to PREFIX itself where IDS is 0. Ends with a line of
-- figures. START is where in that order to begin.
-- Requests are formatted before the clock starts, so that the load generator measures the server and not itself.

local requests = {}
local count = 0
local position = 0

function init(arguments)
  local method, prefix, ids = arguments[1], arguments[2], tonumber(arguments[3])
  position = tonumber(arguments[4])
  if ids == 0 then
    requests[1] = wrk.format(method, prefix)
  end
  for id = 0, ids - 1 do
    requests[id + 1] = wrk.format(method, prefix .. id)
  end
  count = #requests
  math.randomseed(7)
  for last = count, 2, -1 do
    local other = math.random(last)
    requests[last], requests[other] = requests[other], requests[last]
  end
end

function request()
  position = position % count + 1
  return requests[position]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "figures requests=%d microseconds=%d p50=%d p99=%d refused=%d broken=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
