/*
 * HTTP/1 latency by method and URL, of a server and of a client, on exit: microseconds.
 *
 *   dtrace -Z -s http.d PID
 *
 * A server's time goes from the request's headers to the end of the response; a client's from the end of the request to
 * the response's headers. Requests that come without a file descriptor (unix sockets) are only counted.
 */

#pragma D option quiet
#pragma D option switchrate=10hz

/* A connection that was cut off leaves requests without a response; the next one may have its file descriptor. */
node$1:::net-server-connection
{
    asked[(int)arg3] = 0;
    answered[(int)arg3] = 0;
}

/* Requests of one connection may come before the responses to those before them, and are answered in order. */
node$1:::http-server-request
/(int)arg6 >= 0/
{
    this->fd = (int)arg6;
    this->number = asked[this->fd];
    asked[this->fd] = this->number + 1;
    server_begun[this->fd, this->number] = timestamp;
    server_method[this->fd, this->number] = copyinstr(arg4);
    server_url[this->fd, this->number] = copyinstr(arg5);
}

node$1:::http-server-request
/(int)arg6 < 0/
{
    @server_untimed = count();
}

node$1:::http-server-response
/server_begun[(int)arg3, answered[(int)arg3]]/
{
    this->fd = (int)arg3;
    this->number = answered[this->fd];
    this->us = (timestamp - server_begun[this->fd, this->number]) / 1000;
    this->method = server_method[this->fd, this->number];
    this->url = server_url[this->fd, this->number];
    @server_counts[this->method, this->url] = count();
    @server_averages[this->method, this->url] = avg(this->us);
    @server_latencies[this->method, this->url] = quantize(this->us);
    server_begun[this->fd, this->number] = 0;
    server_method[this->fd, this->number] = 0;
    server_url[this->fd, this->number] = 0;
    answered[this->fd] = this->number + 1;
}

node$1:::http-client-request
/(int)arg6 >= 0/
{
    client_begun[(int)arg6] = timestamp;
    client_method[(int)arg6] = copyinstr(arg4);
    client_url[(int)arg6] = copyinstr(arg5);
}

node$1:::http-client-request
/(int)arg6 < 0/
{
    @client_untimed = count();
}

node$1:::http-client-response
/client_begun[(int)arg3]/
{
    this->us = (timestamp - client_begun[(int)arg3]) / 1000;
    this->method = client_method[(int)arg3];
    this->url = client_url[(int)arg3];
    @client_counts[this->method, this->url] = count();
    @client_averages[this->method, this->url] = avg(this->us);
    @client_latencies[this->method, this->url] = quantize(this->us);
    client_begun[(int)arg3] = 0;
    client_method[(int)arg3] = 0;
    client_url[(int)arg3] = 0;
}

dtrace:::END
{
    printa("server_us[%s, %s]: count %@d, average %@d\n", @server_counts, @server_averages);
    printa("server_latency_us[%s, %s]: %@d\n", @server_latencies);
    printa("client_us[%s, %s]: count %@d, average %@d\n", @client_counts, @client_averages);
    printa("client_latency_us[%s, %s]: %@d\n", @client_latencies);
    printa("server_untimed: %@d\n", @server_untimed);
    printa("client_untimed: %@d\n", @client_untimed);
}
