/* A greeting at the price of two system calls: what it cannot serve, the load generator cannot ask for.
 *
 * usage: hello PORT. One thread, epoll, HTTP/1.1 with pipelining ignored: a read that ends with an empty line is one request.
 */
#include "serve.h"

enum { REQUEST_BYTES_MAX = 4096 };

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

static void answer(int fd) {
    char request[REQUEST_BYTES_MAX];
    ssize_t size = read(fd, request, sizeof request);
    int is_whole = size >= 4 && memcmp(request + size - 4, "\r\n\r\n", 4) == 0;
    if (!is_whole || write(fd, ANSWER, sizeof ANSWER - 1) < 0) close(fd);
}

int main(int count, char **arguments) {
    if (count != 2) {
        fputs("usage: hello PORT\n", stderr);
        return 2;
    }
    serve_all(atoi(arguments[1]), answer);
}
