//! Every metric of the gateway: name, help, labels. Dashboards and alerts are written against this
//! table; nothing is exported that does not stand here.

use prometheus::proto::MetricType;

/// A metric family.
pub(super) struct Family {
    /// `tollgate_<subsystem>_<noun>_<unit>`; counters end in `_total`.
    pub name: &'static str,
    /// One sentence, with what the values mean where the name leaves it open.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricType,
    /// Label names, in the order in which values are given. Configuration or code bounds their
    /// values, never a client.
    pub labels: &'static [&'static str],
}

macro_rules! table {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $id: Family =
            Family { name: $name, help: $help, kind: MetricType::$kind, labels: &[$($label),*] };)*
        /// All of them.
        pub(super) const ALL: &[&Family] = &[$(&$id),*];
    };
}

table! {
    REQUESTS COUNTER "tollgate_http_requests_total" ["listener", "route", "upstream", "class"]
        "Requests that ended, by class of their status (1xx to 5xx, or aborted: no status was sent). Route is _none if none matched and _other beyond telemetry.metrics.max_routes; upstream likewise.";
    REQUEST_DURATION HISTOGRAM "tollgate_http_request_duration_seconds" ["route"]
        "Time from the first byte of a request's head to the last byte of the answer.";
    UPSTREAM_DURATION HISTOGRAM "tollgate_upstream_duration_seconds" ["route"]
        "Time that requests spent with their upstream, all attempts together.";
    FALLBACKS COUNTER "tollgate_fallbacks_total" ["route", "by"]
        "Requests that something else took than the route's upstream, which failed: another upstream (upstream), or an answer of the gateway's own (respond). A request counts once for each.";
    IN_FLIGHT GAUGE "tollgate_http_in_flight" ["listener"]
        "Requests that have begun and not ended.";
    CONNECTIONS GAUGE "tollgate_connections" ["listener"]
        "Open client connections.";
    REFUSED COUNTER "tollgate_connections_refused_total" ["listener", "cause"]
        "Connections that were closed at once: beyond limits.connections (listener), limits.client_connections (client), limits.handshakes (handshakes) or the file descriptors for clients (descriptors), or without their PROXY header (proxy_protocol).";
    HANDSHAKES_FAILED COUNTER "tollgate_tls_handshakes_failed_total" ["listener", "cause"]
        "TLS handshakes that came to nothing.";
    ACCEPT_ERRORS COUNTER "tollgate_accept_errors_total" ["listener"]
        "Times that accepting rested because the system had no file descriptor or memory for a connection.";
    UPSTREAM_CONNECTIONS COUNTER "tollgate_upstream_connections_total" ["upstream", "reused"]
        "Connections that requests got to their upstream: opened (false) or found in the pool (true).";
    RETRIES COUNTER "tollgate_retries_total" ["upstream"]
        "Further attempts after one that failed.";
    RETRIES_BARRED COUNTER "tollgate_retries_barred_total" ["upstream"]
        "Further attempts that were not made, since retry.budget was spent.";
    HEDGES COUNTER "tollgate_hedges_total" ["upstream", "outcome"]
        "Requests whose first endpoint was silent for hedge.after: the second endpoint answered (won), the first one or none did (lost), or none was asked for want of another endpoint, room or budget (barred).";
    UPSTREAM_ENDPOINTS GAUGE "tollgate_upstream_endpoints" ["upstream"]
        "Endpoints with a weight that do not drain.";
    UPSTREAM_HEALTHY GAUGE "tollgate_upstream_healthy" ["upstream"]
        "Those of them that are healthy; all of them where nothing probes them.";
    UPSTREAM_EJECTED GAUGE "tollgate_upstream_ejected" ["upstream"]
        "Endpoints that are left out for a while because their requests failed.";
    BREAKER_OPEN GAUGE "tollgate_upstream_breaker_open" ["upstream"]
        "1 while the upstream's breaker answers in its place, 0 while requests or trials go to it.";
    BREAKER_OPENED COUNTER "tollgate_upstream_breaker_opened_total" ["upstream"]
        "How often the upstream's breaker opened.";
    ENDPOINT_BREAKERS_OPEN GAUGE "tollgate_endpoint_breakers_open" ["upstream"]
        "Endpoints of the upstream that get no requests because their breaker is open.";
    ENDPOINT_BREAKERS_OPENED COUNTER "tollgate_endpoint_breakers_opened_total" ["upstream"]
        "How often the breaker of an endpoint of the upstream opened.";
    UPSTREAM_LIMIT GAUGE "tollgate_upstream_limit" ["upstream"]
        "How many requests may be in flight at an upstream with limits.";
    UPSTREAM_WAITING GAUGE "tollgate_upstream_waiting" ["upstream"]
        "Requests that wait for room at an upstream with limits.";
    UPSTREAM_IN_FLIGHT GAUGE "tollgate_upstream_in_flight" ["upstream"]
        "Requests in flight at an upstream with limits.";
    UPSTREAM_SHED COUNTER "tollgate_upstream_shed_total" ["upstream"]
        "Requests that found no room at an upstream with limits in time.";
    DISCOVERY_FAILURES COUNTER "tollgate_discovery_failures_total" ["upstream"]
        "How often endpoints could not be looked for; those found last are kept.";
    STORE_CONNECTED GAUGE "tollgate_store_connected" ["store"]
        "Whether there is a connection to the store: 1 or 0.";
    STORE_CONNECT_FAILURES COUNTER "tollgate_store_connect_failures_total" ["store"]
        "How often no connection to the store could be made.";
    STORE_CALLS COUNTER "tollgate_store_calls_total" ["store", "outcome"]
        "Calls to a store: answered, timeout, refused (an error of its own), broken (the connection), or not even sent since it is down or too many are under way (busy).";
    CACHE_REQUESTS COUNTER "tollgate_cache_requests_total" ["route", "outcome"]
        "Requests of routes with a cache: hit, stale (served though it was), miss, revalidated (the upstream said that what is kept is still good), coalesced (waited for another request's answer), bypass (has nothing to do with the cache).";
    CACHE_BYTES GAUGE "tollgate_cache_bytes" ["cache"]
        "Memory of the answers that a cache holds; caches.NAME.memory bounds it.";
    CACHE_KEYS GAUGE "tollgate_cache_keys" ["cache"]
        "Keys of which a cache holds answers.";
    CACHE_STORED COUNTER "tollgate_cache_stored_total" ["cache"]
        "Answers that a cache took in.";
    CACHE_EVICTED COUNTER "tollgate_cache_evicted_total" ["cache"]
        "Keys whose answers had to leave a cache for want of room.";
    CACHE_FETCHES GAUGE "tollgate_cache_fetches" ["cache"]
        "Fetches under way that requests can wait for.";
    CACHE_DISK_BYTES GAUGE "tollgate_cache_disk_bytes" ["cache"]
        "Bytes of the files of a cache's tier on disk, in whole blocks; caches.NAME.disk.size bounds it.";
    CACHE_DISK_OBJECTS GAUGE "tollgate_cache_disk_objects" ["cache"]
        "Answers in a cache's tier on disk.";
    CACHE_DISK_ILL GAUGE "tollgate_cache_disk_ill" ["cache"]
        "Whether the disk of a cache does not work at the moment, so that requests go on without it: 1 or 0.";
    CACHE_DISK_EVENTS COUNTER "tollgate_cache_disk_events_total" ["cache", "event"]
        "What happened to a cache's tier on disk: hit, written, evicted, damaged (a file was not what had been written, and is gone), error (of the disk), passed_over (left out because too much was going on, or after an error).";
    CACHE_SHARING GAUGE "tollgate_cache_sharing_connected" ["cache"]
        "Whether a cache hears what other gateways purge (caches.NAME.share_purges): 1 or 0.";
    CACHE_SHARING_WAITING GAUGE "tollgate_cache_sharing_waiting" ["cache"]
        "Purges that wait to be passed on to other gateways.";
    CACHE_SHARING_EVENTS COUNTER "tollgate_cache_sharing_events_total" ["cache", "event"]
        "Purges that were passed on (told), taken in (heard), and how often it was not known what others had purged, so that everything was (lost).";
    REJECTIONS COUNTER "tollgate_rejections_total" ["code"]
        "Answers of the gateway's own that refuse a request, by their code.";
    AUTH COUNTER "tollgate_auth_total" ["method", "provider", "outcome"]
        "Requests that a policy authenticate looked at: admitted, anonymous, missing (no credential), or why the credential was refused. Provider is _none where a method has none, and so is the method of a request without a credential.";
    REVOCATIONS GAUGE "tollgate_revocations" []
        "What is revoked by the admin listener and by other gateways; those of a file are not among them.";
    DENIALS COUNTER "tollgate_authorize_denied_total" ["cause"]
        "Requests of callers that may not do what they asked for, by what a policy authorize missed.";
    LIMITS COUNTER "tollgate_limit_decisions_total" ["place", "limit", "outcome"]
        "Requests that a limit decided about: admitted, refused, would_refuse where the limit only counts, store_failed where the store that decides did not answer. Place is where its policy stands in the configuration.";
    LIMIT_KEYS GAUGE "tollgate_limit_keys" []
        "Keys of limits that are not back at all of what they may have, all limits together.";
    LIMIT_KEYS_FORGOTTEN COUNTER "tollgate_limit_keys_forgotten_total" []
        "Keys that limits forgot for lack of room, so that they had all of what they may have at once: raise process.limit_keys.";
    LIMIT_MEMORY GAUGE "tollgate_limit_memory_bytes" []
        "The memory of the keys of limits; process.limit_keys bounds it.";
    QUOTA_KEYS GAUGE "tollgate_quota_keys" []
        "Keys of quotas that have used something, all quotas together; process.quota_keys bounds it.";
    QUOTA_KEYS_FORGOTTEN COUNTER "tollgate_quota_keys_forgotten_total" []
        "Keys that quotas forgot for lack of room, so that they had used nothing: raise process.quota_keys.";
    QUOTA_MEMORY GAUGE "tollgate_quota_memory_bytes" []
        "The memory of the keys of quotas.";
    QUOTA_SAVED GAUGE "tollgate_quota_saved_timestamp_seconds" []
        "When what quotas have used was written to the state folder last, in seconds since 1970; 0 if it was not yet.";
    QUOTA_SAVE_FAILURES COUNTER "tollgate_quota_save_failures_total" []
        "How often what quotas have used could not be written to the state folder.";
    BOUNDED GAUGE "tollgate_concurrency_in_flight" []
        "Requests in flight that a policy concurrency bounds; one that several bounds hold counts once for each.";
    OVERLOAD GAUGE "tollgate_overload_level" []
        "How overloaded the gateway itself is: 0 not, 1 it refuses new connections and what is of low importance, 2 all but what is of high importance.";
    WORKER_DELAY GAUGE "tollgate_worker_delay_seconds" []
        "How long a worker takes to come to a new task, the least in the last second.";
    UNSEEN COUNTER "tollgate_unseen_requests_total" ["listener", "cause"]
        "Requests that the parser refused before a route could see them.";
    RELOADS COUNTER "tollgate_reloads_total" ["outcome"]
        "Configurations that were read again, by what came of it.";
    SNAPSHOTS GAUGE "tollgate_snapshots" []
        "Configurations in memory: the one in force, and older ones that a request or a tunnel still has.";
    CERTIFICATE_EXPIRY GAUGE "tollgate_certificate_expiry_seconds" ["listener", "certificate"]
        "When a listener's certificate ends, in seconds since 1970; subtract time() for what is left.";
    ACCESS_LOG_DROPPED COUNTER "tollgate_access_log_dropped_total" []
        "Lines of the access log that were dropped: the queue was full, or the write failed.";
    BODY_MEMORY GAUGE "tollgate_body_memory_bytes" []
        "Memory of request bodies that are held because a policy has to see them whole; process.body_memory bounds it.";
    BUILD_INFO GAUGE "tollgate_build_info" ["version"]
        "Always 1; the label says which version runs.";
    PROCESS_CPU COUNTER "process_cpu_seconds_total" []
        "User and system CPU time of the process.";
    PROCESS_OPEN_FDS GAUGE "process_open_fds" []
        "Open file descriptors.";
    PROCESS_MAX_FDS GAUGE "process_max_fds" []
        "The limit of open file descriptors.";
    PROCESS_RESIDENT GAUGE "process_resident_memory_bytes" []
        "Resident memory.";
    PROCESS_VIRTUAL GAUGE "process_virtual_memory_bytes" []
        "Virtual memory.";
    PROCESS_THREADS GAUGE "process_threads" []
        "Threads of the process.";
    PROCESS_START GAUGE "process_start_time_seconds" []
        "When the process began, in seconds since 1970.";
}
