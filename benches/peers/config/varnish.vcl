vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "@BACKEND@"; .max_connections = 4096; }
sub vcl_recv {
  if (local.socket == "pass") { return (pass); }
  return (hash);
}
sub vcl_backend_response { set beresp.ttl = 1h; }
sub vcl_deliver {
  if (local.socket == "pass") { set resp.http.X-Cache-Status = "BYPASS"; }
  elsif (obj.hits > 0) { set resp.http.X-Cache-Status = "HIT"; }
  else { set resp.http.X-Cache-Status = "MISS"; }
  set resp.http.X-Response-Time = "0";
}
