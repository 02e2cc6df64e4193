// Written by build_shaders.py from shaders/linear.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _394 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _397 = (THREADS * TOKENS);
constant uint _398 = (_397 * 2u);
constant uint _423 = (64u * TOKENS);
constant uint _459 = (64u * TOKENS);
constant bool _515 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint tiles_per_group;
    uint row_offset;
    uint rows;
    uint cols;
    uint x_stride;
    uint x_group;
    uint y_stride;
    uint y_group;
    uint bias_at;
    uint flags;
    float scale;
    uint residual_stride;
};

constant uint _584 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _685 = (TOKENS * 2u);
constant bool _717 = (TOKENS >= 4u);
constant bool _718 = (_717 && true);
constant int _719 = _718 ? 2 : 4;
constant uint _720 = (uint(_719) + 0u);
constant bool _776 = (TOKENS >= 4u);
constant bool _777 = (_776 && true);
constant int _778 = _777 ? 2 : 4;
constant uint _779 = (uint(_778) + 0u);

struct X
{
    float4 x[1];
};

constant bool _923 = (TOKENS >= 4u);
constant bool _924 = (_923 && true);
constant int _925 = _924 ? 2 : 4;
constant uint _926 = (uint(_925) + 0u);
constant uint _927 = (_926 * THREADS);

struct Bias
{
    float bias0[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1004 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1004, 1u, 1u);

kernel void linear_int8(constant Push& p [[buffer(0)]], const device Weights& _110 [[buffer(1)]], const device X& _843 [[buffer(2)]], device Y& _610 [[buffer(3)]], const device Bias& _957 [[buffer(4)]], const device Step& _523 [[buffer(5)]], const device Residual& _981 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_398];
    threadgroup float chunk_sums[_459];
    do
    {
        uint _513 = gl_WorkGroupID.z * TOKENS;
        uint _1402;
        if (_515)
        {
            _1402 = 1u;
        }
        else
        {
            _1402 = _523.step_[0];
        }
        uint _1403;
        if ((p.flags & 2u) != 0u)
        {
            _1403 = _523.step_[2];
        }
        else
        {
            _1403 = 0u;
        }
        if (_513 >= _1402)
        {
            break;
        }
        uint _562 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _567 = _513 + (gl_LocalInvocationID.x / 8u);
        uint _577 = gl_WorkGroupID.y * p.y_group;
        uint _580 = ((_567 * p.y_stride) + _577) + _562;
        bool _585 = gl_LocalInvocationID.x < _584;
        bool _593;
        if (_585)
        {
            _593 = _562 < p.rows;
        }
        else
        {
            _593 = _585;
        }
        bool _596 = _567 < _1402;
        bool _597 = _593 && _596;
        if ((_513 + TOKENS) <= _1403)
        {
            if (_597)
            {
                _610.y[_580] = 0.0;
            }
            break;
        }
        uint _629 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1404 = 0u; _1404 < TOKENS; )
        {
            x_at[_1404] = ((_513 + _1404) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1404++;
            continue;
        }
        uint _661 = _1402 - _513;
        uint _668 = gl_LocalInvocationID.x % 8u;
        uint _1041 = ((p.cols + 7u) / 8u) * 4u;
        uint _1019 = _629 + _1041;
        uint _1021 = _668 / 2u;
        uint _1405;
        if ((_668 & 1u) == 0u)
        {
            _1405 = ((device uint*)&_110.weights[_1019])[_1021] & 65535u;
        }
        else
        {
            _1405 = ((device uint*)&_110.weights[_1019])[_1021] >> uint(16);
        }
        uint _1050 = _1405 & 32767u;
        uint _1052 = _1050 << uint(13);
        float _1067 = (_1050 < 1024u) ? (as_type<float>(947912704u | _1052) - 6.103515625e-05) : as_type<float>(_1052 + ((_1050 < 31744u) ? 939524096u : 1879048192u));
        float _1406;
        if ((_1405 & 32768u) != 0u)
        {
            _1406 = -_1067;
        }
        else
        {
            _1406 = _1067;
        }
        float _677 = spvFMul(p.scale, _1406);
        float acc[16];
        for (uint _1407 = 0u; _1407 < _685; )
        {
            acc[_1407] = 0.0;
            _1407++;
            continue;
        }
        uint _1408;
        _1408 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        bool _707;
        for (;;)
        {
            _707 = _1408 < _1041;
            if (_707)
            {
                bool _721 = 0u < _720;
                bool _730;
                if (_721)
                {
                    _730 = _707;
                }
                else
                {
                    _730 = _721;
                }
                if (_730)
                {
                    uint4 _1398[1] = { _110.weights[_629 + _1408] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1398);
                }
                bool _1552 = 1u < _720;
                bool _1558;
                if (_1552)
                {
                    _1558 = (_1408 + THREADS) < _1041;
                }
                else
                {
                    _1558 = _1552;
                }
                if (_1558)
                {
                    uint4 _1565[1] = { _110.weights[_629 + (_1408 + THREADS)] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1565);
                }
                bool _1575 = 2u < _720;
                bool _1581;
                if (_1575)
                {
                    _1581 = (_1408 + (2u * THREADS)) < _1041;
                }
                else
                {
                    _1581 = _1575;
                }
                if (_1581)
                {
                    uint4 _1588[1] = { _110.weights[_629 + (_1408 + (2u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1588);
                }
                bool _1598 = 3u < _720;
                bool _1604;
                if (_1598)
                {
                    _1604 = (_1408 + (3u * THREADS)) < _1041;
                }
                else
                {
                    _1604 = _1598;
                }
                if (_1604)
                {
                    uint4 _1611[1] = { _110.weights[_629 + (_1408 + (3u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1611);
                }
                for (uint _1419 = 0u; _1419 < 4u; _1419++)
                {
                    uint _774 = _1408 + (_1419 * THREADS);
                    if ((_1419 >= _779) || (_774 >= _1041))
                    {
                        continue;
                    }
                    uint _1128 = raw[_1419][0].x ^ 2155905152u;
                    float _1151 = as_type<float>((_1128 & 255u) | 1258291200u) - 8388736.0;
                    float _1159 = as_type<float>(((_1128 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1167 = as_type<float>(((_1128 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1175 = as_type<float>((_1128 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1623 = raw[_1419][0].y ^ 2155905152u;
                    float _1627 = as_type<float>((_1623 & 255u) | 1258291200u) - 8388736.0;
                    float _1632 = as_type<float>(((_1623 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1637 = as_type<float>(((_1623 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1641 = as_type<float>((_1623 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1653 = raw[_1419][0].z ^ 2155905152u;
                    float _1657 = as_type<float>((_1653 & 255u) | 1258291200u) - 8388736.0;
                    float _1662 = as_type<float>(((_1653 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1667 = as_type<float>(((_1653 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1671 = as_type<float>((_1653 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1683 = raw[_1419][0].w ^ 2155905152u;
                    float _1687 = as_type<float>((_1683 & 255u) | 1258291200u) - 8388736.0;
                    float _1692 = as_type<float>(((_1683 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1697 = as_type<float>(((_1683 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1701 = as_type<float>((_1683 >> uint(24)) | 1258291200u) - 8388736.0;
                    for (uint _1423 = 0u; _1423 < TOKENS; _1423 += 4u)
                    {
                        if ((_1423 != 0u) && (_1423 >= _661))
                        {
                            continue;
                        }
                        for (uint _1424 = _1423; _1424 < (_1423 + 4u); _1424++)
                        {
                            if (_1424 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1180 = (_774 >> uint(2)) * 2u;
                            uint _852 = x_at[_1424] + _1180;
                            uint _1716 = x_at[_1424] + (_1180 + 1u);
                            uint _888 = _1424 * 2u;
                            acc[_888] = spvFAdd(acc[_888], fma(_1641, _843.x[_1716].w, fma(_1637, _843.x[_1716].z, fma(_1632, _843.x[_1716].y, fma(_1627, _843.x[_1716].x, fma(_1175, _843.x[_852].w, fma(_1167, _843.x[_852].z, fma(_1159, _843.x[_852].y, spvFMul(_1151, _843.x[_852].x)))))))));
                            uint _1795 = _888 + 1u;
                            acc[_1795] += fma(_1701, _843.x[_1716].w, fma(_1697, _843.x[_1716].z, fma(_1692, _843.x[_1716].y, fma(_1687, _843.x[_1716].x, fma(_1671, _843.x[_852].w, fma(_1667, _843.x[_852].z, fma(_1662, _843.x[_852].y, _1657 * _843.x[_852].x)))))));
                        }
                    }
                }
                _1408 += _927;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1409 = 0u; _1409 < _394; )
        {
            partial[(_1409 * THREADS) + gl_LocalInvocationID.x] = param[_1409];
            _1409++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1410 = gl_LocalInvocationID.x; _1410 < _423; _1410 += THREADS)
        {
            uint _1334 = (((_1410 / 32u) * THREADS) + ((_1410 / 8u) % 4u)) + (4u * (_1410 % 8u));
            float _1417;
            _1417 = partial[_1334];
            for (uint _1415 = 32u; _1415 < THREADS; )
            {
                _1417 = spvFAdd(_1417, partial[_1334 + _1415]);
                _1415 += 32u;
                continue;
            }
            chunk_sums[_1410] = _1417;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_597)
        {
            break;
        }
        uint _1375 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_668 % 2u)) * 4u) + _1021) * 8u;
        float _947 = spvFMul((((((spvFAdd(chunk_sums[_1375], chunk_sums[_1375 + 1u]) + chunk_sums[_1375 + 2u]) + chunk_sums[_1375 + 3u]) + chunk_sums[_1375 + 4u]) + chunk_sums[_1375 + 5u]) + chunk_sums[_1375 + 6u]) + chunk_sums[_1375 + 7u], _677);
        float _1413;
        if ((p.flags & 1u) != 0u)
        {
            _1413 = spvFAdd(_947, _957.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _562]);
        }
        else
        {
            _1413 = _947;
        }
        float _1414;
        if ((p.flags & 4u) != 0u)
        {
            _1414 = spvFAdd(_1413, _981.residual[((_567 * p.residual_stride) + _577) + _562]);
        }
        else
        {
            _1414 = _1413;
        }
        _610.y[_580] = (_567 < _1403) ? 0.0 : _1414;
        break;
    } while(false);
}

