-- All kinds of requests in turns, for a million clients, as a trusted proxy names them. A pause between the requests
-- of a connection, so that memory is what is tested, not speed.
local at, clients, objects = 0, 1000000, 200000
local token = os.getenv("SOAK_TOKEN")

request = function()
    at = at + 1
    local client = (at * 618033) % clients
    local headers = {
        ["X-Forwarded-For"] =
            string.format("10.%d.%d.%d", math.floor(client / 65536), math.floor(client / 256) % 256, client % 256),
        ["Accept-Encoding"] = "gzip, br, zstd",
    }
    local kind = at % 10
    if kind < 3 then
        return wrk.format("GET", "/plain/" .. client, headers)
    elseif kind < 5 then
        headers["Authorization"] = "Bearer " .. token
        headers["Origin"] = "https://app.example.com"
        return wrk.format("GET", "/full/" .. client % 1000, headers)
    elseif kind < 7 then
        return wrk.format("GET", "/kept/" .. (at * 7919) % objects, headers)
    elseif kind == 7 then
        headers["X-Api-Key"] = string.format("key-of-%d-which-is-long-enough", client % 500)
        return wrk.format("POST", "/keys/a", headers, string.rep("x", 4096))
    elseif kind == 8 then
        return wrk.format("GET", "/shared/a", headers)
    end
    return wrk.format("GET", "/faulty/a", headers)
end

delay = function()
    return 20
end
