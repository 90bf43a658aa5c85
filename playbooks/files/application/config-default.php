<?php
define('DB_NAME', 'wordpress');
define('DB_USER', 'wordpress');
define('DB_PASSWORD', trim(file_get_contents('/run/secrets/database')));
define('DB_HOST', 'db');
define('WP_HOME', 'http://' . $_SERVER['HTTP_HOST']);
define('WP_SITEURL', WP_HOME);
// All replicas must take the cookies of each.
foreach (['AUTH', 'SECURE_AUTH', 'LOGGED_IN', 'NONCE'] as $name) {
    define($name . '_KEY', hash_hmac('sha256', $name . ' key', DB_PASSWORD));
    define($name . '_SALT', hash_hmac('sha256', $name . ' salt', DB_PASSWORD));
}
define('DISABLE_WP_CRON', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
