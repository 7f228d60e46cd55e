package builtins

// SettingValue is settingValue, for tests against a real server.
var SettingValue = settingValue
