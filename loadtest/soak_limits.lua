-- A request for each of a million clients, as a trusted proxy names them, in an order without a pattern.
local at, most = 0, 1000000

request = function()
    at = at + 1
    -- 618033 and the number of clients have no common divisor: every client comes before one comes again.
    local client = (at * 618033) % most
    local address = string.format("10.%d.%d.%d", math.floor(client / 65536), math.floor(client / 256) % 256, client % 256)
    return wrk.format("GET", "/", { ["X-Forwarded-For"] = address })
end
