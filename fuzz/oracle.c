/* Numbers as C reads and shows them, by the rules of Redis: no space in front, nothing behind, not too large, not too small. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 5 * 1024 };

int oracle_double(const char *text, size_t len, double *value) {
    char copy[TEXT_MAX + 1], *end;
    if (len == 0 || len > TEXT_MAX || isspace((unsigned char)text[0])) return 0;
    memcpy(copy, text, len);
    copy[len] = 0;
    errno = 0;
    *value = strtod(copy, &end);
    if (end != copy + len || isnan(*value)) return 0;
    return !(errno == ERANGE && (isinf(*value) || *value == 0));
}

static int read_long(const char *text, size_t len, long double *value) {
    char copy[TEXT_MAX], *end;
    if (len == 0 || len >= TEXT_MAX || isspace((unsigned char)text[0])) return 0;
    memcpy(copy, text, len);
    copy[len] = 0;
    errno = 0;
    *value = strtold(copy, &end);
    if (end != copy + len || isnan(*value)) return 0;
    return !(errno == ERANGE && (isinf(*value) || *value == 0));
}

static void show_long(long double value, char *out, size_t size) {
    if (isinf(value)) {
        strcpy(out, value < 0 ? "-inf" : "inf");
        return;
    }
    snprintf(out, size, "%.17Lf", value);
    size_t len = strlen(out);
    while (out[len - 1] == '0') len--;
    if (out[len - 1] == '.') len--;
    out[len] = 0;
    if (strcmp(out, "-0") == 0) strcpy(out, "0");
}

int oracle_sum(const char *a, size_t a_len, const char *b, size_t b_len, char *out, size_t size) {
    long double first, second;
    if (!read_long(a, a_len, &first) || !read_long(b, b_len, &second)) return 0;
    if (isnan(first + second)) return 0;
    show_long(first + second, out, size);
    return 1;
}

void oracle_format(double value, char *out, size_t size) {
    if (isnan(value)) strcpy(out, "nan");
    else snprintf(out, size, "%.17g", value);
}

void oracle_format_long(double value, char *out, size_t size) { show_long(value, out, size); }
