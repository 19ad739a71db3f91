"""The programs, in the order in which they run: the shortest way to a failure first."""

from . import (
    cargo,
    chromium,
    compilers,
    compressors,
    ffmpeg,
    firefox,
    git,
    java,
    mariadb,
    memcached,
    nginx,
    node,
    openssl,
    perl,
    php,
    postgres,
    python3,
    redis,
    sqlite,
    stress_ng,
)

PROGRAMS = {
    module.PROGRAM.name: module.PROGRAM
    for module in (
        perl,
        php,
        python3,
        sqlite,
        git,
        compressors,
        openssl,
        stress_ng,
        node,
        java,
        ffmpeg,
        chromium,
        firefox,
        memcached,
        redis,
        nginx,
        postgres,
        mariadb,
        compilers,
        cargo,
    )
}
