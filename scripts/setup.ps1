# Sets Tidegate up on Windows: makes .venv and installs the pinned requirements.
#   .\scripts\setup.ps1                what serving needs
#   .\scripts\setup.ps1 -Development   the tests' tools too
#   .\scripts\setup.ps1 -Run           then trains two models and serves them
param([switch]$Development, [switch]$Run, [int]$Port = 8000)
$ErrorActionPreference = "Stop"
Set-Location (Join-Path $PSScriptRoot "..")

$python = $null
foreach ($candidate in @(@("py", "-3"), @("python"), @("python3"))) {
    if (-not (Get-Command $candidate[0] -ErrorAction SilentlyContinue)) { continue }
    $rest = @($candidate | Select-Object -Skip 1)
    & $candidate[0] @rest -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>$null
    if ($LASTEXITCODE -eq 0) { $python = $candidate; break }
}
if ($null -eq $python) {
    [Console]::Error.WriteLine("error: Tidegate needs Python 3.11 or newer; install it from python.org or the Microsoft Store")
    exit 2
}

$what = if ($Development) { "dev" } else { "run" }
$rest = @($python | Select-Object -Skip 1)
& $python[0] @rest scripts/setup.py $what
if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
if ($Run) {
    & .venv\Scripts\python.exe -m tidegate demo --port $Port
    exit $LASTEXITCODE
}
Write-Host "Done. Next: .venv\Scripts\tidegate demo"
